/** Resources that are deleted in the middle of being made, and made again under the same name at once: only those of now have anything left. */
import { beforeAll, expect, it } from 'vitest'
import type { AnyObject } from '../../testplane/api.ts'
import { sharedPlane } from '../../testplane/shared.ts'
import { untilCollectorKnows } from '../stand/collector.ts'
import { agentText, managed, PROXY, startSettling, TOOL, untilSettled, writesOf } from '../stand/settling.ts'
import type { OperatorStand } from '../stand/stand.ts'

const plane = sharedPlane()
const { api } = plane
const ROUNDS_PER_STAGE = 3

beforeAll(() => untilCollectorKnows(plane))

interface Subject {
  readonly kind: 'Agent' | 'MCPServer' | 'ModelAPI'
  readonly name: string
  readonly text: string
  readonly around: readonly string[]
  readonly children: readonly string[]
  /** Without the prefix of the namespace; while it is there, and after it is gone. */
  readonly streams: readonly string[]
  readonly streamsKept: readonly string[]
}

const subjects: readonly Subject[] = [
  {
    kind: 'Agent',
    name: 'a',
    text: agentText('a', 'scaling: { minReplicas: 1 }'),
    around: [PROXY],
    children: ['ConfigMap agent-a', 'Deployment agent-a', 'Service agent-a', 'ServiceAccount agent-a'],
    streams: ['agent_a_journal', 'agent_a_mail'],
    streamsKept: ['agent_a_journal'],
  },
  {
    kind: 'MCPServer',
    name: 'tool',
    text: TOOL,
    around: [],
    children: ['Deployment mcpserver-tool', 'Service mcpserver-tool', 'ConfigMap mcpserver-tool'],
    streams: ['tool_tool_done', 'tool_tool_mail'],
    streamsKept: ['tool_tool_done'],
  },
  {
    kind: 'ModelAPI',
    name: 'models',
    text: PROXY,
    around: [],
    children: [
      'ConfigMap litellm-config-models',
      'Deployment modelapi-models',
      'Secret modelapi-models-master-key',
      'Service modelapi-models',
    ],
    streams: [],
    streamsKept: [],
  },
]

/** How far it has come when it is deleted. */
function stages(stand: OperatorStand, { kind, name, children }: Subject): readonly (() => Promise<unknown>)[] {
  const child = (of: string) => children.find((each) => each.startsWith(of))!.split(' ') as [string, string]
  return [
    () => Promise.resolve(),
    () => stand.until(kind, name, ({ metadata, status }) => metadata.finalizers || status),
    () => stand.until(...child('ConfigMap'), () => true),
    () => stand.until(...child('Deployment'), () => true),
    () => stand.untilReady(kind, name),
  ]
}

it.each(subjects.map((subject) => [subject.kind, subject] as const))('keeps what is of the last %s', async (_kind, subject) => {
  const { kind, name, text, around, children, streams, streamsKept } = subject
  const stand = await startSettling(plane, 'recreated')
  const operator = await stand.operator({ kubeconfig: await stand.ownIdentity('operator') })
  await untilSettled(stand, await stand.apply(around.join('---')))
  const ofOthers = (await managed(stand)).map(({ metadata }) => metadata.uid)

  for (let round = 0; round < ROUNDS_PER_STAGE; round++) {
    for (const reached of stages(stand, subject)) {
      await stand.apply(text)
      await reached()
      await api.delete(stand.path(kind, name))
      await stand.untilGone(kind, name)
    }
  }
  const [last] = (await untilSettled(stand, await stand.apply(text))) as [AnyObject]
  await stand.untilLooked(operator)

  const own = (await managed(stand)).filter(({ metadata }) => !ofOthers.includes(metadata.uid))
  expect(own.map((object) => `${object.kind} ${object.metadata.name}`).toSorted()).toEqual([...children].toSorted())
  expect(own.flatMap(({ metadata }) => metadata.ownerReferences).map((owner) => owner!.uid)).toEqual(
    own.map(() => last.metadata.uid),
  )
  const named = (await stand.streams()).filter((each) => each.includes(`_${name}_`))
  expect(named).toEqual(streams.map((stream) => `kaos_${stand.namespace}_${stream}`))
  const made = (await writesOf(stand, 'operator')).filter(({ responseStatus }) => responseStatus?.code === 201)
  const lastOf = (what: string) => made.findLastIndex(({ objectRef }) => objectRef?.resource === what)
  // A pod reads these when it starts: one that started with those of before would keep them.
  for (const read of ['configmaps', 'secrets', 'serviceaccounts']) expect(lastOf(read), read).toBeLessThan(lastOf('deployments'))

  await api.delete(stand.path(kind, name))
  await stand.untilGone(kind, name)
  const left = (await stand.streams()).filter((each) => each.includes(`_${name}_`))
  expect(left).toEqual(streamsKept.map((stream) => `kaos_${stand.namespace}_${stream}`))
})

it('gives agents the key of the ModelAPI that is there now', async () => {
  const stand = await startSettling(plane, 'key')
  await stand.operator({ kubeconfig: await stand.ownIdentity('operator') })
  const [, agent] = await stand.apply(`${PROXY}---${agentText('a', 'scaling: { minReplicas: 1 }')}`)
  await stand.untilReady('Agent', 'a')

  await api.delete(stand.path('ModelAPI', 'models'))
  await stand.untilGone('ModelAPI', 'models')
  const [anew] = (await stand.apply(PROXY)) as [AnyObject]
  const ownerOf = ({ spec }: AnyObject) => spec.template.metadata.annotations['kaos.tools/model-api-uid']
  await stand.until('Deployment', 'agent-a', (live) => ownerOf(live) === anew.metadata.uid)
  await untilSettled(stand, [anew, agent!])

  const writes = (await writesOf(stand, 'operator')).map(({ what }) => what)
  const lastOf = (kind: string) => writes.findLastIndex((what) => what.includes(kind))
  expect(lastOf('/secrets')).toBeLessThan(lastOf('/deployments/agent-a'))
  const secret = await api.get(stand.path('Secret', 'modelapi-models-master-key'))
  expect(secret.metadata.ownerReferences?.map(({ uid }) => uid)).toEqual([anew.metadata.uid])
})
