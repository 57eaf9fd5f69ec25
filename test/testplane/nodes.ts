/** Nodes that exist only as objects, so that the scheduler has where to put pods. Whose pods run is up to `fake-kubelet.ts`. */
import type { ApiClient } from './api.ts'

const PODS_PER_NODE = 2_000
const CAPACITY = { cpu: '1000', memory: '4000Gi', pods: String(PODS_PER_NODE), 'ephemeral-storage': '1000Gi' }
/** Documentation address (RFC 5737): nobody answers there. */
const ADDRESS = '192.0.2.1'

/** Makes ready nodes named `node-0` and so on. They need no heartbeat, because the plane runs no node lifecycle controller. */
export async function addNodes(api: ApiClient, count = 3): Promise<readonly string[]> {
  const names = Array.from({ length: count }, (_, i) => `node-${i}`)
  await Promise.all(names.map((name) => addNode(api, name)))
  return names
}

async function addNode(api: ApiClient, name: string): Promise<void> {
  const labels = { 'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux', 'kubernetes.io/arch': 'amd64' }
  await api.create({ apiVersion: 'v1', kind: 'Node', metadata: { name, labels } })
  const at = new Date().toISOString()
  const ready = { type: 'Ready', status: 'True', reason: 'KubeletReady', lastHeartbeatTime: at, lastTransitionTime: at }
  const status = {
    capacity: CAPACITY,
    allocatable: CAPACITY,
    addresses: [{ type: 'InternalIP', address: ADDRESS }],
    nodeInfo: { kubeletVersion: 'v1.35.4-fake', architecture: 'amd64', operatingSystem: 'linux' },
    conditions: [ready],
  }
  await api.patch(`/api/v1/nodes/${name}/status`, { status }, 'strategic')
  // A new node is made with the taint not-ready, which the node lifecycle controller would take away.
  await api.patch(`/api/v1/nodes/${name}`, { spec: { taints: null } })
}
