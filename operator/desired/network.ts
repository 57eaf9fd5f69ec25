/** The NetworkPolicy of an agent: what it needs for its work is open, everything else is closed both ways. */
import type { KubeObject } from '../kube/object.ts'
import type { Installation } from './installation.ts'
import { HTTP_PORT, OLLAMA_PORT, selectorOf, workloadName } from './names.ts'
import { type ClusterAgent, type ClusterModelApi, childMeta } from './plan.ts'

/** The second is where the DNS pods of OpenShift listen, and a policy counts ports of pods. */
const DNS_PORTS = [53, 5_353] as const
const NATS_PORT = 4_222
const OTLP_PORT = 4_317

export interface Reached {
  readonly modelApi: ClusterModelApi | undefined
  /** Where telemetry goes; absent: nowhere. */
  readonly telemetryUrl: string | undefined
}

/** Broker and collector are open by port: they may stand outside the cluster, where a policy knows addresses only. */
export function networkPolicyOf(
  agent: ClusterAgent,
  { modelApi, telemetryUrl }: Reached,
  installation: Installation,
): KubeObject {
  const { name, namespace } = agent.metadata
  const ports = (...numbers: readonly number[]) => numbers.map((port) => ({ protocol: 'TCP', port }))
  const modelPort = modelApi?.spec.mode === 'Hosted' ? OLLAMA_PORT : HTTP_PORT
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: childMeta(agent, workloadName('Agent', name)),
    spec: {
      podSelector: { matchLabels: selectorOf('Agent', name) },
      policyTypes: ['Ingress', 'Egress'],
      ingress: [
        {
          from: installation.networkPolicy.ingressFrom ?? neighbours(namespace, installation.namespace),
          ports: ports(HTTP_PORT),
        },
      ],
      egress: [
        { ports: [...DNS_PORTS.map((port) => ({ protocol: 'UDP', port })), ...ports(...DNS_PORTS)] },
        { ports: ports(...brokerPorts(installation.broker.url)) },
        ...(telemetryUrl === undefined ? [] : [{ ports: ports(portOf(telemetryUrl)) }]),
        ...(modelApi
          ? [{ to: [{ podSelector: { matchLabels: selectorOf('ModelAPI', modelApi.metadata.name) } }], ports: ports(modelPort) }]
          : []),
        ...installation.networkPolicy.egress,
      ],
    },
  }
}

function neighbours(...namespaces: readonly string[]): readonly object[] {
  return [...new Set(namespaces)].map((name) => ({ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': name } } }))
}

function brokerPorts(url: string): readonly number[] {
  const ports = url.split(',').map((address) => {
    const { port } = new URL(address.includes('://') ? address : `nats://${address}`)
    return port === '' ? NATS_PORT : Number(port)
  })
  return [...new Set(ports)].toSorted((a, b) => a - b)
}

function portOf(url: string): number {
  const { port, protocol } = new URL(url)
  if (port !== '') return Number(port)
  return protocol === 'https:' ? 443 : OTLP_PORT
}
