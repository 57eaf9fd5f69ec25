/** The four processes of the control plane: their flags and the files that they read. Nothing here starts anything. */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** In the order in which they start. */
export const partNames = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const
export type Part = (typeof partNames)[number]

/** Who the plane's own tokens belong to. All may do everything. */
const USERS = {
  admin: 'admin',
  controllers: 'system:kube-controller-manager',
  scheduler: 'system:kube-scheduler',
  kubelet: 'testplane-kubelet',
} as const
export type PlaneUser = keyof typeof USERS

export interface PlaneLayout {
  readonly folder: string
  readonly ports: { readonly etcd: number; readonly peer: number; readonly api: number }
  readonly tokens: Readonly<Record<PlaneUser, string>>
}

/*
 * Left out: what needs a cloud or real nodes; the node lifecycle controller, which would drain the nodes whenever a busy machine delays
 * their heartbeats for 40 s; and the Endpoints of Services, whose rules refuse the loopback addresses that pods have here.
 */
const CONTROLLERS_OFF = [
  'endpoints-controller',
  'endpointslice-controller',
  'endpointslice-mirroring-controller',
  'node-ipam-controller',
  'node-lifecycle-controller',
  'node-route-controller',
  'service-lb-controller',
  'cloud-node-lifecycle-controller',
  'persistentvolume-attach-detach-controller',
]

/** The audit log holds what the tests and the operator ask, one line per answer; the plane's own parts ask a hundred times as often. */
const AUDIT_POLICY = {
  apiVersion: 'audit.k8s.io/v1',
  kind: 'Policy',
  omitStages: ['RequestReceived'],
  rules: [
    { level: 'None', users: [USERS.controllers, USERS.scheduler, USERS.kubelet, 'system:apiserver'] },
    { level: 'None', nonResourceURLs: ['/readyz*', '/livez*'] },
    { level: 'Metadata' },
  ],
}
const AUDIT_MB_MAX = 4_000

export const certificateFile = (folder: string) => join(folder, 'pki', 'apiserver.crt')
export const logFile = (folder: string, part: Part) => join(folder, 'logs', `${part}.log`)
export const auditFile = (folder: string) => join(folder, 'logs', 'audit.jsonl')
export const serverUrl = ({ ports }: Pick<PlaneLayout, 'ports'>) => `https://127.0.0.1:${ports.api}`

/** Makes the folder, tokens, keys and configuration. The server makes its certificate itself, so that no openssl is needed. */
export function writePlaneFiles(folder: string, ports: PlaneLayout['ports']): PlaneLayout {
  for (const name of ['pki', 'logs', 'etcd']) mkdirSync(join(folder, name), { recursive: true, mode: 0o700 })
  const tokens = Object.fromEntries(
    Object.keys(USERS).map((user) => [user, randomBytes(16).toString('hex')]),
  ) as PlaneLayout['tokens']
  const layout: PlaneLayout = { folder, ports, tokens }
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text, { mode: 0o600 })
  const users = Object.entries(USERS) as [PlaneUser, string][]
  write('pki/tokens.csv', users.map(([key, user]) => `${tokens[key]},${user},${user},"system:masters"\n`).join(''))
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  write('pki/sa.key', privateKey.export({ type: 'sec1', format: 'pem' }).toString())
  write('pki/sa.pub', publicKey.export({ type: 'spki', format: 'pem' }).toString())
  write('audit.yaml', JSON.stringify(AUDIT_POLICY))
  write('kubeconfig', kubeconfig(layout, tokens.admin))
  write('controllers.kubeconfig', kubeconfig(layout, tokens.controllers))
  write('scheduler.kubeconfig', kubeconfig(layout, tokens.scheduler))
  write('scheduler.yaml', JSON.stringify(schedulerConfiguration(folder)))
  return layout
}

/** JSON, which is YAML too. */
export function kubeconfig(layout: Pick<PlaneLayout, 'folder' | 'ports'>, token: string, namespace = 'default'): string {
  const cluster = { server: serverUrl(layout), 'certificate-authority': certificateFile(layout.folder) }
  return JSON.stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'testplane',
      clusters: [{ name: 'testplane', cluster }],
      users: [{ name: 'testplane', user: { token } }],
      contexts: [{ name: 'testplane', context: { cluster: 'testplane', user: 'testplane', namespace } }],
    },
    null,
    2,
  )
}

export function partArguments(part: Part, { folder, ports }: PlaneLayout): readonly string[] {
  const pki = (name: string) => join(folder, 'pki', name)
  const etcd = `http://127.0.0.1:${ports.etcd}`
  const peer = `http://127.0.0.1:${ports.peer}`
  switch (part) {
    case 'etcd':
      return [
        '--name=plane',
        `--data-dir=${join(folder, 'etcd')}`,
        // The folder is thrown away, so nothing has to survive a power cut.
        '--unsafe-no-fsync',
        '--log-level=warn',
        `--listen-client-urls=${etcd}`,
        `--advertise-client-urls=${etcd}`,
        `--listen-peer-urls=${peer}`,
        `--initial-advertise-peer-urls=${peer}`,
        `--initial-cluster=plane=${peer}`,
      ]
    case 'kube-apiserver':
      return [
        `--etcd-servers=${etcd}`,
        `--secure-port=${ports.api}`,
        '--bind-address=127.0.0.1',
        '--advertise-address=127.0.0.1',
        // It would write the loopback address into the Endpoints of the kubernetes Service, which is refused.
        '--endpoint-reconciler-type=none',
        `--cert-dir=${join(folder, 'pki')}`,
        `--token-auth-file=${pki('tokens.csv')}`,
        '--service-account-issuer=https://kubernetes.default.svc',
        `--service-account-key-file=${pki('sa.pub')}`,
        `--service-account-signing-key-file=${pki('sa.key')}`,
        '--service-cluster-ip-range=10.96.0.0/16',
        '--authorization-mode=Node,RBAC',
        '--allow-privileged=true',
        '--profiling=false',
        `--audit-policy-file=${join(folder, 'audit.yaml')}`,
        `--audit-log-path=${auditFile(folder)}`,
        `--audit-log-maxsize=${AUDIT_MB_MAX}`,
      ]
    case 'kube-controller-manager':
      return [
        `--kubeconfig=${join(folder, 'controllers.kubeconfig')}`,
        `--service-account-private-key-file=${pki('sa.key')}`,
        `--root-ca-file=${certificateFile(folder)}`,
        '--leader-elect=false',
        '--secure-port=0',
        `--controllers=*,${CONTROLLERS_OFF.map((name) => `-${name}`).join(',')}`,
        // The defaults of 20 to 50 a second are what makes a thousand pods slow.
        '--kube-api-qps=1000',
        '--kube-api-burst=2000',
        '--concurrent-gc-syncs=20',
        '--horizontal-pod-autoscaler-sync-period=1s',
        '--profiling=false',
      ]
    case 'kube-scheduler':
      return [`--config=${join(folder, 'scheduler.yaml')}`, '--secure-port=0', '--profiling=false']
  }
}

function schedulerConfiguration(folder: string): unknown {
  return {
    apiVersion: 'kubescheduler.config.k8s.io/v1',
    kind: 'KubeSchedulerConfiguration',
    leaderElection: { leaderElect: false },
    clientConnection: { kubeconfig: join(folder, 'scheduler.kubeconfig'), qps: 1_000, burst: 2_000 },
  }
}
