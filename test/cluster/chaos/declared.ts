/** What a walk declares: specifications of all kinds out of few names, so that resources meet, and what makes them whole at its end. */
import type { OwnedKind } from '../../../operator/desired/names.ts'
import type { AnyObject } from '../../testplane/api.ts'
import type { Chance } from './chance.ts'

export const NAMES = {
  Agent: ['a', 'b', 'c'],
  MCPServer: ['t', 'u'],
  ModelAPI: ['m', 'n'],
} as const satisfies Readonly<Record<OwnedKind, readonly string[]>>
export const KINDS = Object.keys(NAMES) as readonly OwnedKind[]

export type Spec = Readonly<Record<string, unknown>>

const MODEL = 'm'
const PLAIN: Readonly<Record<'MCPServer' | 'ModelAPI', Spec>> = {
  MCPServer: { runtime: 'echo' },
  ModelAPI: { mode: 'Proxy', proxyConfig: { models: ['*'] } },
}

/**
 * Where nothing waits these lead to one count, whatever was before: none after a moment, or as many as are fixed. A count between bounds comes down
 * only after a minute.
 */
const SCALINGS: readonly Spec[] = [
  { cooldownSeconds: 0 },
  { cooldownSeconds: 1, maxReplicas: 2 },
  { minReplicas: 1, maxReplicas: 1 },
  { minReplicas: 2, maxReplicas: 2, targetBacklogPerReplica: 1 },
  { scaler: 'External' },
]

export function anySpec(kind: OwnedKind, name: string, chance: Chance): Spec {
  const telemetry = chance.is(0.3) && {
    telemetry: chance.of([{ enabled: false }, { endpoint: 'otlp.test:4317' }, { enabled: true }]),
  }
  const container = chance.is(0.2) && { container: { env: [{ name: 'MARK', value: chance.of(['1', '2']) }] } }
  const podSpec = chance.is(0.2) && { podSpec: { terminationGracePeriodSeconds: chance.of([5, 7]) } }
  const shared = { ...telemetry, ...container, ...podSpec }
  switch (kind) {
    case 'Agent':
      return agentSpec(name, shared, chance)
    case 'MCPServer':
      return {
        ...shared,
        ...chance.weighted<Spec>([
          [4, { runtime: chance.of(['echo', 'calculator']) }],
          [2, { runtime: 'python-string', params: `def f(): return ${chance.of([1, 2])}` }],
          [1, { runtime: 'nowhere' }],
          [1, { runtime: 'slack' }],
        ]),
      }
    case 'ModelAPI':
      return { ...shared, ...modelApiSpec(chance) }
  }
}

function agentSpec(name: string, shared: Spec, chance: Chance): Spec {
  if (chance.is(0.1)) return { external: true }
  const model = chance.is(0.1)
    ? { machineRef: { path: '/app/machine.ts' } }
    : { modelAPI: chance.weighted(NAMES.ModelAPI.map((each, i) => [3 - i, each])), model: MODEL }
  return {
    ...shared,
    ...model,
    mcpServers: chance.is(0.5) ? chance.some(NAMES.MCPServer) : [],
    agentNetwork: { expose: chance.is(0.7), access: chance.some(NAMES.Agent.filter((other) => other !== name)) },
    config: { description: chance.of(['one', 'other']), instructions: chance.of(['be short', 'be long']) },
    scaling: chance.of(SCALINGS),
    waitForDependencies: chance.is(0.7),
    ...(chance.is(0.2) && { replicas: chance.of([0, 1, 3]) }),
  }
}

function modelApiSpec(chance: Chance): Spec {
  if (chance.is(0.3))
    return { mode: 'Hosted', hostedConfig: { model: chance.weighted([[5, MODEL] as const, [1, 'other'] as const]) } }
  return {
    mode: 'Proxy',
    proxyConfig: {
      models: chance.weighted<readonly string[]>([
        [4, ['*']],
        [2, [MODEL]],
        [1, ['other']],
      ]),
      ...(chance.is(0.3) && { apiKey: { value: chance.of(['one', 'other']) } }),
      ...(chance.is(0.2) && { configYaml: { fromString: `model_list: [] # ${chance.of([1, 2])}` } }),
    },
  }
}

export interface Declared {
  readonly kind: OwnedKind
  readonly name: string
  readonly spec: Spec
}

/**
 * What is to be declared so that everything can work: as long as something is missing or refused, what is there depends on what was there before,
 * and that is meant so.
 */
export function missingFor(resources: readonly AnyObject[]): readonly Declared[] {
  const named = (field: (spec: AnyObject['spec']) => readonly string[]) =>
    resources.filter(({ kind }) => kind === 'Agent').flatMap(({ spec }) => field(spec))
  const absent = (kind: OwnedKind, names: readonly string[]) =>
    [...new Set(names)].filter((name) => !resources.some((each) => each.kind === kind && each.metadata.name === name))
  const refused = (kind: OwnedKind, isRefused: (spec: AnyObject['spec']) => boolean) =>
    resources.filter((each) => each.kind === kind && isRefused(each.spec)).map(({ metadata }) => metadata.name)
  return [
    ...[
      ...absent(
        'ModelAPI',
        named(({ modelAPI }) => (modelAPI === undefined ? [] : [modelAPI])),
      ),
      ...refused('ModelAPI', isWithoutModel),
    ].map((name) => ({ kind: 'ModelAPI' as const, name, spec: PLAIN.ModelAPI })),
    ...[
      ...absent(
        'MCPServer',
        named(({ mcpServers }) => mcpServers),
      ),
      ...refused('MCPServer', ({ runtime }) => runtime === 'nowhere' || runtime === 'slack'),
    ].map((name) => ({ kind: 'MCPServer' as const, name, spec: PLAIN.MCPServer })),
  ]
}

function isWithoutModel({ hostedConfig, proxyConfig }: AnyObject['spec']): boolean {
  if (hostedConfig) return hostedConfig.model !== MODEL
  return !proxyConfig.models.includes('*') && !proxyConfig.models.includes(MODEL)
}
