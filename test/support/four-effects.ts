/** A coordinator that is a machine: a note, a delegation, a model call and a function, one after the other, and then all their answers. */
import { delegate, local, model, tool } from 'kaos-actors'
import { assign, setup } from 'xstate'

interface Context {
  readonly task: string
  readonly answers: readonly string[]
}

const and = ({ answers }: Context, answer: string) => [...answers, answer]

// biome-ignore lint/style/noDefaultExport: it is the file of a machine
export default setup({
  types: {} as { context: Context; input: string; output: readonly string[] },
  actors: {
    note: tool<{ text: string; ms: number }, string>('desk', 'note'),
    ask: delegate<string, string>('worker1'),
    think: model(),
    run: local(({ input }: { input: string }) => `ran ${input}`),
  },
}).createMachine({
  id: 'four-effects',
  context: ({ input }) => ({ task: input, answers: [] }),
  output: ({ context }) => context.answers,
  initial: 'noting',
  states: {
    noting: {
      invoke: {
        src: 'note',
        input: ({ context }) => ({ text: `${context.task}.a`, ms: 10 }),
        onDone: { target: 'asking', actions: assign({ answers: ({ context, event }) => and(context, event.output) }) },
      },
    },
    asking: {
      invoke: {
        src: 'ask',
        input: ({ context }) => `${context.task}.worker1`,
        onDone: { target: 'thinking', actions: assign({ answers: ({ context, event }) => and(context, event.output) }) },
      },
    },
    thinking: {
      invoke: {
        src: 'think',
        input: ({ context }) => ({ prompt: `${context.task}.model` }),
        onDone: { target: 'running', actions: assign({ answers: ({ context, event }) => and(context, event.output.text) }) },
      },
    },
    running: {
      invoke: {
        src: 'run',
        input: ({ context }) => context.task,
        onDone: { target: 'done', actions: assign({ answers: ({ context, event }) => and(context, event.output) }) },
      },
    },
    done: { type: 'final' },
  },
})
