/**
 * The pod of a resource: generated, then changed by its `container`, then by its `podSpec`; hardened so that namespaces with Pod
 * Security "restricted" take it.
 */

import type { KubeObject } from '../../kube/object.ts'
import type { Installation } from '../installation.ts'
import { CONFIG_HASH_ANNOTATION, containerName, labelsOf, type OwnedKind, selectorOf } from '../names.ts'
import { type ClusterResource, childMeta, RefusedError } from '../plan.ts'
import { type EnvVar, withUserVars } from './environment.ts'
import { isMap, mergePodSpec } from './merge.ts'
import { forbiddenFields } from './policy.ts'

type Map = Readonly<Record<string, unknown>>

/** A host finishes what is in hand within 25 s of SIGTERM and tells its collector within 3 s more. */
export const HOST_GRACE_SECONDS = 35
const REVISIONS_KEPT = 3

export interface Container {
  readonly name: string
  readonly image: string
  readonly command?: readonly string[]
  readonly args?: readonly string[]
  readonly env: readonly EnvVar[]
  readonly ports?: readonly Map[]
  readonly resources?: Map
  readonly volumeMounts?: readonly Map[]
  readonly livenessProbe?: Map
  readonly readinessProbe?: Map
}

export interface Pod {
  /** The one that the resource's `container` changes. */
  readonly main: Container
  readonly sidecars?: readonly Container[]
  readonly initContainers?: readonly Container[]
  /** Beside an empty /tmp, which every container has. */
  readonly volumes: readonly Map[]
  readonly serviceAccountName?: string
  readonly graceSeconds: number
}

export interface Workload {
  readonly name: string
  readonly pod: Pod
  readonly replicas: number
  /** Of all that pods read when they start and that does not stand in the pod itself. */
  readonly configHash: string
  /** Of the pods, beside the hash. */
  readonly annotations?: Readonly<Record<string, string>>
  /** How long pods may take to become ready before that is a failure. Default 600. */
  readonly progressDeadlineSeconds?: number
  /** The pod of before is ended first, since the next one needs what it holds: a GPU, a volume. Default false. */
  readonly endsBeforeNext?: boolean
}

/** The pods of before work until those of now are ready. */
const READY_FIRST = { maxSurge: '25%', maxUnavailable: 0 } as const
/** Not Recreate: a Deployment that KAOS's operator made has a rollingUpdate of its own, beside which the server refuses that. */
const END_FIRST = { maxSurge: 0, maxUnavailable: 1 } as const

/** Throws RefusedError for what the installation forbids. */
export function deploymentOf(owner: ClusterResource, workload: Workload, installation: Installation): KubeObject {
  const kind = owner.kind as OwnedKind
  const { name } = owner.metadata
  const { replicas, configHash, annotations, progressDeadlineSeconds, endsBeforeNext = false } = workload
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: childMeta(owner, workload.name),
    spec: {
      replicas,
      revisionHistoryLimit: REVISIONS_KEPT,
      ...(progressDeadlineSeconds !== undefined && { progressDeadlineSeconds }),
      selector: { matchLabels: selectorOf(kind, name) },
      strategy: { type: 'RollingUpdate', rollingUpdate: endsBeforeNext ? END_FIRST : READY_FIRST },
      template: {
        metadata: { labels: labelsOf(kind, name), annotations: { ...annotations, [CONFIG_HASH_ANNOTATION]: configHash } },
        spec: podSpecOf(owner, workload.pod, installation),
      },
    },
  }
}

function podSpecOf({ kind, spec }: ClusterResource, pod: Pod, installation: Installation): Map {
  const { container, podSpec } = spec
  const serviceAccountName = 'serviceAccountName' in spec ? spec.serviceAccountName : undefined
  const fields = forbiddenFields({ container, podSpec, serviceAccountName }, installation.forbidden)
  if (fields.length > 0) {
    const paths = fields.map((field) => `spec.${field}`).join(', ')
    throw new RefusedError('ForbiddenByPolicy', `the installation forbids ${paths}: remove it, or ask who runs the operator`)
  }
  const harden = (each: Container): Map => hardened(each, installation)
  const generated: Map = {
    automountServiceAccountToken: false,
    enableServiceLinks: false, // a Service called "nats" or "otel" would set variables that mean something else here
    ...(pod.serviceAccountName !== undefined && { serviceAccountName: pod.serviceAccountName }),
    ...(installation.imagePullSecrets.length > 0 && {
      imagePullSecrets: installation.imagePullSecrets.map((name) => ({ name })),
    }),
    securityContext: installation.podSecurityContext,
    terminationGracePeriodSeconds: pod.graceSeconds,
    ...(pod.initContainers && { initContainers: pod.initContainers.map(harden) }),
    containers: [changed(harden(pod.main), container), ...(pod.sidecars ?? []).map(harden)],
    volumes: [{ name: 'tmp', emptyDir: {} }, ...pod.volumes],
  }
  return podSpec === undefined ? generated : withMain(mergePodSpec(generated, podSpec), containerName(kind as OwnedKind))
}

function hardened({ volumeMounts = [], ...rest }: Container, { imagePullPolicy }: Installation): Map {
  return {
    ...rest,
    imagePullPolicy,
    volumeMounts: [{ name: 'tmp', mountPath: '/tmp' }, ...volumeMounts],
    securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
  }
}

/** A command of one's own comes without our arguments, as Kubernetes does it with those of an image. */
function changed(container: Map, override: ClusterResource['spec']['container']): Map {
  if (!override) return container
  const { env, command, args, volumeMounts, securityContext, ...rest } = override
  const { args: ownArgs, ...withoutArgs } = container
  return mergePodSpec(
    { ...withoutArgs, ...(ownArgs !== undefined && command === undefined && { args: ownArgs }) },
    {
      ...defined(rest),
      ...(command && { command }),
      ...(args && { args }),
      ...(volumeMounts && { volumeMounts }),
      ...(securityContext && { securityContext }),
      env: [{ $patch: 'replace' }, ...withUserVars(container.env as readonly EnvVar[], env)],
    },
  )
}

function withMain(podSpec: Map, main: string): Map {
  const { containers } = podSpec
  if (Array.isArray(containers) && containers.some((each) => isMap(each) && each.name === main)) return podSpec
  throw new RefusedError('SpecInvalid', `spec.podSpec.containers removes the container "${main}", which does the work`)
}

function defined(fields: Map): Map {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
}

/** Kubelet probes of an HTTP path. Times in seconds. */
export function httpProbe(path: string, port: number, times: Map): Map {
  return { httpGet: { path, port }, ...times }
}

export function tcpProbe(port: number, times: Map): Map {
  return { tcpSocket: { port }, ...times }
}

export function serviceOf(owner: ClusterResource, name: string, port: number): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: childMeta(owner, name),
    spec: {
      type: 'ClusterIP',
      selector: selectorOf(owner.kind as OwnedKind, owner.metadata.name),
      ports: [{ name: 'http', port, targetPort: port, protocol: 'TCP' }],
    },
  }
}

export function configMapOf(owner: ClusterResource, name: string, data: Readonly<Record<string, string>>): KubeObject {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: childMeta(owner, name), data }
}
