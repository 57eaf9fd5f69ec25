/** Asks every agent that the task names at once, each in a child of its own, and gives all answers; one that fails is left out with its reason. */
import { delegate } from 'kaos-actors'
import { assign, enqueueActions, setup } from 'xstate'

interface Survey {
  readonly question: string
  readonly topics: readonly string[]
}

interface Answered {
  readonly actorId: string
  readonly output?: string
  readonly error?: { readonly message: string }
}

export default setup({
  types: {} as { context: Survey & { answers: Record<string, string> }; input: Survey; output: Record<string, string> },
  actors: { ask: delegate<string, string>('expert') },
  actions: {
    askAll: enqueueActions(({ context, enqueue }) => {
      for (const [i, topic] of context.topics.entries())
        enqueue.spawnChild('ask', { id: `ask-${i}`, input: `${context.question} Topic: ${topic}` })
    }),
    note: assign({
      answers: ({ context, event }) => {
        const { actorId, output, error } = event as unknown as Answered
        const topic = context.topics[Number(actorId.slice('ask-'.length))]!
        return { ...context.answers, [topic]: output ?? `no answer: ${error?.message}` }
      },
    }),
  },
  guards: { hasAll: ({ context }) => Object.keys(context.answers).length === context.topics.length },
}).createMachine({
  id: 'survey',
  context: ({ input }) => ({ ...input, answers: {} }),
  output: ({ context }) => context.answers,
  initial: 'asking',
  states: {
    asking: {
      entry: 'askAll',
      always: { guard: 'hasAll', target: 'done' },
      on: { 'xstate.done.actor.*': { actions: 'note' }, 'xstate.error.actor.*': { actions: 'note' } },
    },
    done: { type: 'final' },
  },
})
