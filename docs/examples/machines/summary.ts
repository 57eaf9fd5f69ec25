/** Fetches a page, lets another agent review it and shortens it. Every step is journaled; the review may take days. */
import { delegate, local, tool } from 'kaos-actors'
import { assign, setup } from 'xstate'

export default setup({
  types: {} as { context: { url: string; page: string; text: string }; input: { url: string }; output: string; tags: 'rejected' },
  actors: {
    fetch: tool<{ url: string }, string>('web', 'fetch'), // over NATS, by an MCPServer
    review: delegate<string, string>('reviewer'), // an agent of its own
    shorten: local(async ({ input }: { input: string }) => input.slice(0, 280)), // in this host; repeats after a crash
  },
}).createMachine({
  id: 'summary',
  context: ({ input }) => ({ url: input.url, page: '', text: '' }),
  output: ({ context }) => context.text,
  initial: 'fetching',
  states: {
    fetching: {
      invoke: {
        src: 'fetch',
        input: ({ context }) => ({ url: context.url }),
        onDone: { target: 'reviewing', actions: assign({ page: ({ event }) => event.output }) },
      },
    },
    reviewing: {
      invoke: {
        src: 'review',
        input: ({ context }) => `May this be published? Answer yes or no.\n\n${context.page}`,
        onDone: [{ guard: ({ event }) => /^yes\b/i.test(event.output), target: 'shortening' }, { target: 'refused' }],
      },
    },
    shortening: {
      invoke: {
        src: 'shorten',
        input: ({ context }) => context.page,
        onDone: { target: 'published', actions: assign({ text: ({ event }) => event.output }) },
      },
    },
    published: { type: 'final' },
    refused: { type: 'final', tags: 'rejected' },
  },
})
