/** Says what to take along: looks up the weather and packs for it. Kill the process at any point, and it goes on from there. */
import { local, tool } from 'kaos-actors'
import { assign, setup } from 'xstate'

interface Forecast {
  readonly city: string
  readonly celsius: number
  readonly rain: boolean
}

export default setup({
  types: {} as { context: { city: string; forecast?: Forecast; list: string }; input: string; output: string },
  actors: {
    forecast: tool<{ city: string }, Forecast>('weather', 'forecast'),
    pack: local(({ input }: { input: Forecast }) =>
      [input.celsius < 15 ? 'a coat' : 'a shirt', ...(input.rain ? ['an umbrella'] : [])].join(' and '),
    ),
  },
}).createMachine({
  id: 'packer',
  context: ({ input }) => ({ city: input, list: '' }),
  output: ({ context }) => `For ${context.city} take ${context.list}.`,
  initial: 'looking',
  states: {
    looking: {
      invoke: {
        src: 'forecast',
        input: ({ context }) => ({ city: context.city }),
        onDone: { target: 'packing', actions: assign({ forecast: ({ event }) => event.output }) },
      },
    },
    packing: {
      invoke: {
        src: 'pack',
        input: ({ context }) => context.forecast!,
        onDone: { target: 'packed', actions: assign({ list: ({ event }) => event.output }) },
      },
    },
    packed: { type: 'final' },
  },
})
