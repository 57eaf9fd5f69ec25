/** What the bench runs: its agents and its one tool server as a manifest, and what the model answers. */
import { stringify } from 'yaml'
import type { Script } from '../../actors/testing/model-script.ts'

export const NAMESPACE = 'bench'
export const TOOL_SERVER = 'desk'
/** Its tools go over NATS. */
export const REMOTE = 'remote'
/** The same agent with tools that are functions of its host. */
export const LOCAL = 'local'
/** The same agent as `REMOTE`, with a tool server of its own, by how much of its work is exported. */
export const TRACED = { traced: 1, sampled: 0.01 } as const
export type Traced = keyof typeof TRACED
export const tracedToolServer = (agent: Traced) => `${TOOL_SERVER}-${agent}`
export const COORDINATOR = 'coordinator'
export const WORKERS = ['worker1', 'worker2'] as const

/** What the second kind of task is told, so that one model server can do with and without a delay. */
const SLOW = 'slowly'

/** Text of a task whose model calls take so long. */
export function textOf(key: string, modelMs: number): string {
  return `${modelMs > 0 ? SLOW : 'quickly'} compare what stands under ${key} with the record`
}

/** As large as an entry of a task of the bench on average. */
export const RAW_BODY = 'x'.repeat(700)
/** What a task with two tools stores: 1 at the door, 5 entries, 2 calls, 2 claims, 2 records of replies, 2 replies, 2 in the index, 1 result. */
export const MESSAGES_OF_A_TASK = 17

export function scriptOf(slowMs: number): Script {
  const look = (what: string) => ({ name: 'echo', arguments: { text: `${what}: {{input}}` } })
  const ask = (worker: string) => ({ name: `delegate_to_${worker}`, arguments: { task: `{{input}}, part of ${worker}` } })
  const replies = [
    { when: { agent: COORDINATOR, turn: 0 }, reply: { calls: WORKERS.map(ask) } },
    ...[REMOTE, LOCAL, ...Object.keys(TRACED)].map((agent) => ({
      when: { agent, turn: 0 },
      reply: { calls: [look('left'), look('right')] },
    })),
    { when: {}, reply: { text: 'Both say the same.' } },
  ]
  return {
    rules: [
      ...replies.map(({ when, reply }) => ({ when: { ...when, text: SLOW }, reply: { ...reply, delayMs: slowMs } })),
      ...replies,
    ],
  }
}

/** @param traced The agents whose telemetry is on are in it. */
export function manifestText({ traced = false } = {}): string {
  const resource = (kind: string, name: string, spec: object) => ({
    apiVersion: 'kaos.tools/v1alpha1',
    kind,
    metadata: { name, namespace: NAMESPACE },
    spec,
  })
  const agent = (name: string, mcpServers: readonly string[], access: readonly string[] = []) =>
    resource('Agent', name, {
      modelAPI: 'models',
      model: 'scripted',
      mcpServers,
      agentNetwork: { access },
      config: {
        description: `The ${name}.`,
        instructions: 'Look at both sides at once, then say in one sentence what you found.',
      },
    })
  const exporting = traced ? (Object.keys(TRACED) as Traced[]) : []
  return [
    resource('ModelAPI', 'models', { mode: 'Proxy', proxyConfig: { models: ['*'] } }),
    resource('MCPServer', TOOL_SERVER, { runtime: 'echo' }),
    agent(REMOTE, [TOOL_SERVER]),
    agent(LOCAL, [TOOL_SERVER]),
    agent(COORDINATOR, [], WORKERS),
    ...WORKERS.map((worker) => agent(worker, [])),
    ...exporting.flatMap((name) => [
      resource('MCPServer', tracedToolServer(name), { runtime: 'echo' }),
      agent(name, [tracedToolServer(name)]),
    ]),
  ]
    .map((document) => stringify(document))
    .join('---\n')
}
