/** Telemetry of an installation: the operator gives its endpoint to pods, and what agents in three pods do for one task is one trace at a receiver. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import type { KubeObject } from '../../operator/kube/object.ts'
import { NEWSROOM_TASK, NEWSROOM_TREE } from '../support/newsroom-tree.ts'
import { startOtlpReceiver } from '../support/otlp-receiver.ts'
import { sharedPlane } from '../testplane/shared.ts'
import { OperatorStand } from './stand/stand.ts'

const plane = sharedPlane()
const newsroom = readFileSync(join(import.meta.dirname, '..', '..', 'manifests', 'samples', 'newsroom.yaml'), 'utf8')
const AGENTS = ['planner', 'writer', 'reviewer']
const MINUTES = 60_000

/** The offline model answers as the sample's script says; agents go to sleep after a second, and what they have to export is gone by then. */
function asTested(object: KubeObject): KubeObject {
  const env = [{ name: 'MODEL_SCRIPT', value: '/app/manifests/samples/newsroom.script.yaml' }]
  const more = object.kind === 'ModelAPI' ? { container: { env } } : { scaling: { cooldownSeconds: 1 } }
  return { ...object, spec: { ...(object.spec as object), ...more } }
}

it('shows the task of a three-level hierarchy as one trace, each agent in a pod of its own', {
  timeout: 3 * MINUTES,
}, async () => {
  const backend = await startOtlpReceiver()
  onTestFinished(() => backend[Symbol.asyncDispose]())
  const stand = await OperatorStand.create(plane, 'newsroom')
  onTestFinished(() => stand[Symbol.asyncDispose]())
  await stand.processPods()
  await stand.operator({ settings: { telemetry: { endpoint: backend.url } } })
  await stand.apply(newsroom, asTested)
  const agents = await Promise.all(AGENTS.map((name) => stand.untilReady('Agent', name, MINUTES)))
  const results = stand.connection.subscribe(`kaos.${stand.namespace}.result.>`, { max: 1 })

  await stand.connection.request(`kaos.${stand.namespace}.agent.planner.task`, NEWSROOM_TASK)
  const ended: { state: string; trace: string }[] = []
  for await (const message of results) ended.push(message.json())
  for (const name of AGENTS)
    await stand.until('Deployment', `agent-${name}`, ({ spec, status }) => spec.replicas === 0 && !status.replicas, 2 * MINUTES)

  const spans = backend.spans()
  expect(ended.map(({ state }) => state)).toEqual(['completed'])
  expect(backend.treeOf(ended[0]!.trace)).toBe(NEWSROOM_TREE)
  expect(new Set(spans.map(({ traceId }) => traceId))).toEqual(new Set([ended[0]!.trace]))
  expect(new Set(spans.map(({ resource }) => resource['service.namespace']))).toEqual(new Set([stand.namespace]))
  // More than one each: agents sleep while they wait for a peer, and another pod carries on.
  expect(new Set(spans.map(({ resource }) => resource['service.instance.id'])).size).toBeGreaterThanOrEqual(AGENTS.length)
  for (const { status } of agents)
    expect(status.telemetry).toEqual({
      enabled: true,
      enabledFrom: 'Installation',
      endpoint: backend.url,
      endpointFrom: 'Installation',
    })
})
