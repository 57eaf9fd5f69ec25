import { pino } from 'pino'
import { expect, it, onTestFinished } from 'vitest'
import type { Resource } from '../../../operator/kube/object.ts'
import { TerminatingNamespaces } from '../../../operator/process/namespaces.ts'
import { type Asked, refuse, ScriptedApiServer } from '../kube/api-server.ts'

const NAMESPACES: Resource = { apiVersion: 'v1', kind: 'Namespace', plural: 'namespaces', namespaced: false }
const anything = () => true

/** Refuses the first requests with these codes. Each refusal counts, and so does each line of the log from `warn` or `info` on. */
async function start(codes: readonly number[]) {
  const server = await ScriptedApiServer.start()
  for (const code of codes) server.once(anything, (response) => refuse(response, code, 'Reason'))
  const lines: { readonly level: number; readonly namespace: string }[] = []
  const told: string[] = []
  const seen = Promise.withResolvers<void>()
  const terminating = new TerminatingNamespaces({
    client: server.client(),
    namespaces: ['team'],
    onTerminating: (namespace) => {
      told.push(namespace)
      seen.resolve()
    },
    log: pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line)) }),
    limits: { retryMs: 1, retryMaxMs: 2, deniedMs: 1 },
  })
  onTestFinished(async () => {
    await terminating.stop()
    await server[Symbol.asyncDispose]()
  })
  return { server, terminating, lines, told, seen: seen.promise }
}

it.each([
  ['that answer with an error', [500, 500, 500, 500]],
  ['that it may not open', [403, 403, 403]],
])('says once that it does not see a namespace, and when it does again, after watches %s', async (_how, codes) => {
  const { server, lines } = await start(codes)

  await server.whenAsked(anything, codes.length + 1)
  await server.whenWatched()
  const levels = () => lines.map(({ level, namespace }) => [level, namespace])
  while (levels().length < 2) await new Promise((resolve) => setImmediate(resolve))

  expect(levels()).toEqual([
    [pino.levels.values.warn, 'team'],
    [pino.levels.values.info, 'team'],
  ])
})

it('says nothing of one watch that fails, and sees what it has missed', async () => {
  const { server, terminating, lines, told, seen } = await start([500])

  const isOfTeam = ({ path }: Asked) => path === '/api/v1/watch/namespaces/team'
  await server.whenAsked(isOfTeam, 2)
  await server.whenWatched()
  const [watch] = server.watches
  const object = { ...NAMESPACES, metadata: { name: 'team', deletionTimestamp: '2026-11-27T00:00:00Z' } }
  watch!.response.write(`${JSON.stringify({ type: 'MODIFIED', object })}\n`)
  await seen

  expect([lines, told, terminating.has('team')]).toEqual([[], ['team'], true])
})
