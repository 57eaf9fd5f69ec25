/** A walk as data: what is done to a cluster and to the operator on it, in order. The same for the same seed; how it falls in time is the machine's. */
import {
  apiKeySecretName,
  litellmConfigName,
  masterKeySecretName,
  type OwnedKind,
  workloadName,
} from '../../../operator/desired/names.ts'
import { Chance } from './chance.ts'
import { anySpec, type Declared, KINDS, NAMES } from './declared.ts'

/** What can be away for a while; `operator` is one of those that run. */
export type OutagePart = 'kube-apiserver' | 'etcd' | 'kube-controller-manager' | 'broker' | 'operator'

/** By somebody else: fields of a child, or what says whose it is. */
export type Spoiling = 'fields' | 'applied' | 'label' | 'owner' | 'gone'

export interface Child {
  readonly kind: 'Deployment' | 'Service' | 'ConfigMap' | 'ServiceAccount' | 'Secret' | 'PodDisruptionBudget'
  readonly name: string
}

interface Named {
  readonly kind: OwnedKind
  readonly name: string
}

export type Step =
  | ({ readonly do: 'declare' } & Declared)
  | ({ readonly do: 'delete'; readonly isOrphaning?: true } & Named)
  | ({ readonly do: 'pause' | 'resume' } & Named)
  | ({ readonly do: 'spoilStatus' } & Named)
  | ({ readonly do: 'dropFinalizers' } & Named)
  | { readonly do: 'scale'; readonly name: string; readonly replicas: number }
  | { readonly do: 'spoil'; readonly child: Child; readonly how: Spoiling }
  | { readonly do: 'deletePod'; readonly place: number }
  | { readonly do: 'mail'; readonly name: string; readonly count: number }
  | { readonly do: 'purge'; readonly name: string }
  | { readonly do: 'dropStream' | 'dropConsumer'; readonly stream: string }
  /** Another image for a runtime of the installation. */
  | { readonly do: 'register'; readonly tag: number }
  /** Until so many changes were seen, or for a moment. */
  | { readonly do: 'watch'; readonly changes: number }
  | {
      readonly do: 'outage'
      readonly of: OutagePart
      readonly how: 'kill' | 'freeze'
      readonly meanwhile: readonly Step[]
      /** Of the operator: its lease is left to expire, and where another is there it takes over. */
      readonly isLeaseLost?: true
      /** Of the broker that is killed: nothing is on its disk when it comes back. Of the API server: its history is compacted meanwhile. */
      readonly isPastLost?: true
    }

export interface Walk {
  readonly seed: number
  readonly operators: 1 | 2
  readonly steps: readonly Step[]
}

/** How many things happen at the same time. */
const MEANWHILE_MAX = 4

/**
 * What says whose a child is stands in its label and in its owner. Whoever takes both away makes it somebody else's, which is never taken back: a
 * walk has one of the two.
 */
type Flavour = 'label' | 'owner'

export function walkOf(seed: number, length: number): Walk {
  const chance = new Chance(seed)
  const flavour = chance.of<Flavour>(['label', 'owner'])
  const operators = chance.of([1, 2] as const)
  // Something is there before anything happens to it.
  const first = KINDS.flatMap((kind) => NAMES[kind].map((name) => declare(kind, name, chance)))
  const steps: Step[] = [...first, { do: 'watch', changes: 40 }]
  while (steps.length < first.length + length) steps.push(anyStep(chance, flavour, true))
  return { seed, operators, steps }
}

function anyStep(chance: Chance, flavour: Flavour, mayFail: boolean): Step {
  const kind = chance.weighted<OwnedKind>([
    [5, 'Agent'],
    [2, 'MCPServer'],
    [2, 'ModelAPI'],
  ])
  const name = chance.of<string>(NAMES[kind])
  const agent = chance.of(NAMES.Agent)
  return chance.weighted<() => Step>([
    [24, () => declare(kind, name, chance)],
    [8, () => ({ do: 'delete', kind, name, ...(flavour === 'owner' && chance.is(0.2) && { isOrphaning: true as const }) })],
    [3, () => ({ do: 'pause', kind, name })],
    [6, () => ({ do: 'resume', kind, name })],
    [2, () => ({ do: 'spoilStatus', kind, name })],
    [1, () => ({ do: 'dropFinalizers', kind: chance.of(['Agent', 'MCPServer'] as const), name })],
    [4, () => ({ do: 'scale', name: agent, replicas: chance.of([0, 1, 3]) })],
    [
      14,
      () => ({ do: 'spoil', child: chance.of(childrenOf(kind, name)), how: chance.of(['fields', 'applied', flavour, 'gone']) }),
    ],
    [3, () => ({ do: 'deletePod', place: chance.next() })],
    [6, () => ({ do: 'mail', name: agent, count: chance.of([1, 40, 100]) })],
    [4, () => ({ do: 'purge', name: agent })],
    [3, () => ({ do: chance.of(['dropStream', 'dropConsumer'] as const), stream: chance.of(STREAMS) })],
    [1, () => ({ do: 'register', tag: chance.of([1, 2]) })],
    [12, () => ({ do: 'watch', changes: chance.of([1, 5, 20, 60]) })],
    ...(mayFail ? [[8, () => outage(chance, flavour)] as const] : []),
  ])()
}

function declare(kind: OwnedKind, name: string, chance: Chance): Step {
  return { do: 'declare', kind, name, spec: anySpec(kind, name, chance) }
}

function outage(chance: Chance, flavour: Flavour): Step {
  const of = chance.weighted<OutagePart>([
    [2, 'kube-apiserver'],
    [1, 'etcd'],
    [1, 'kube-controller-manager'],
    [3, 'broker'],
    [5, 'operator'],
  ])
  const count = Math.floor(chance.next() * (MEANWHILE_MAX + 1))
  const meanwhile = Array.from({ length: count }, () => anyStep(chance, flavour, false))
  return {
    do: 'outage',
    of,
    how: chance.of(['kill', 'freeze']),
    meanwhile,
    ...(of === 'operator' && chance.is(0.1) && { isLeaseLost: true as const }),
    ...(['broker', 'kube-apiserver'].includes(of) && chance.is(0.3) && { isPastLost: true as const }),
  }
}

/** Of those of the namespace, what comes after its name. */
const STREAMS: readonly string[] = [
  ...NAMES.Agent.flatMap((name) => [`agent_${name}_mail`, `agent_${name}_mail`, `agent_${name}_journal`]),
  ...NAMES.MCPServer.flatMap((name) => [`tool_${name}_mail`, `tool_${name}_done`]),
]

/** All that a resource may have. */
export function childrenOf(kind: OwnedKind, name: string): readonly Child[] {
  const workload = workloadName(kind, name)
  const shared: readonly Child[] = [
    { kind: 'Deployment', name: workload },
    { kind: 'Service', name: workload },
  ]
  if (kind === 'ModelAPI') {
    return [
      ...shared,
      { kind: 'ConfigMap', name: litellmConfigName(name) },
      { kind: 'Secret', name: masterKeySecretName(name) },
      { kind: 'Secret', name: apiKeySecretName(name) },
    ]
  }
  const config: Child = { kind: 'ConfigMap', name: workload }
  if (kind === 'MCPServer') return [...shared, config]
  return [...shared, config, { kind: 'ServiceAccount', name: workload }, { kind: 'PodDisruptionBudget', name: workload }]
}

/** A line for each step, for whoever has to find out what a walk did. */
export function textOf(step: Step): string {
  const { do: what, ...rest } = step
  return `${what} ${JSON.stringify(rest)}`
}
