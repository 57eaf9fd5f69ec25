/**
 * Waits for a person: a refund is paid when somebody sends the signal "approve", for at most what they say. Nothing runs meanwhile, and a restart
 * changes nothing. Paying is a local effect with an idempotency key, so that a crash pays once.
 */
import { local } from 'kaos-actors'
import { assign, setup } from 'xstate'

interface Refund {
  readonly order: string
  readonly cents: number
}

export default setup({
  types: {} as {
    context: Refund & { paid: string }
    input: Refund
    output: string
    tags: 'rejected'
    events: { type: 'approve'; data: { atMostCents: number } } | { type: 'refuse' }
  },
  actors: { pay: local(({ input, idempotencyKey }: { input: Refund; idempotencyKey: string }) => pay(input, idempotencyKey)) },
}).createMachine({
  id: 'approval',
  context: ({ input }) => ({ ...input, paid: '' }),
  output: ({ context }) => context.paid,
  initial: 'waiting',
  states: {
    waiting: {
      on: {
        approve: {
          target: 'paying',
          actions: assign({ cents: ({ context, event }) => Math.min(context.cents, event.data.atMostCents) }),
        },
        refuse: 'refused',
      },
    },
    paying: {
      invoke: {
        src: 'pay',
        input: ({ context }) => ({ order: context.order, cents: context.cents }),
        onDone: { target: 'paid', actions: assign({ paid: ({ event }) => event.output }) },
      },
    },
    paid: { type: 'final' },
    refused: { type: 'final', tags: 'rejected' },
  },
})

/** Stands for a payment service: the same key gives the same receipt. */
async function pay({ order, cents }: Refund, idempotencyKey: string): Promise<string> {
  return `paid ${cents} cents for order ${order}, receipt ${idempotencyKey}`
}
