/** The chart: what its values do, what it refuses, and that what the operator reads from it is what the operator understands. */
import { execFile } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Ajv } from 'ajv'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { findServer } from '../../bus/server/binary/find.ts'
import { SERVER_VERSION_PINNED } from '../../bus/server/binary/version.ts'
import { customResourceDefinitions } from '../../manifests/crd/definitions.ts'
import { readInstallation } from '../../operator/desired/installation.ts'
import { readRegistry } from '../../operator/desired/runtimes.ts'
import { staleInstallFiles } from '../../scripts/install-yaml.ts'
import { chartFolder, find, helm, installationIn, type Rendered, renderChart, rightsIn } from '../support/chart.ts'
import { helmPath } from '../testplane/kubectl.ts'
import { allSamples, effects, nonsense, refusals, valuesWith } from './chart-values.ts'

const root = join(import.meta.dirname, '..', '..')
const run = promisify(execFile)

type Values = Record<string, unknown>
const isTaken = new Ajv().compile(JSON.parse(await readFile(join(chartFolder, 'values.schema.json'), 'utf8')))
const defaults = parse(await readFile(join(chartFolder, 'values.yaml'), 'utf8')) as Values
const kaosValues = await kaosTable()
const byDefault = renderChart()

describe('the chart', () => {
  it('passes helm lint, with defaults and with everything set', async () => {
    await helm('lint', '--strict', chartFolder)
    expect((await renderChart(allSamples)).length).toBeGreaterThan(15)
  })

  it('has the version of the package, and the broker that is tested here', async () => {
    const chart = parse(await readFile(join(chartFolder, 'Chart.yaml'), 'utf8')) as Record<string, string>
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }

    expect(chart).toMatchObject({ version, appVersion: version })
    expect(defaults.nats).toMatchObject({ image: `docker.io/library/nats:${SERVER_VERSION_PINNED}` })
  })

  it('pins every image', async () => {
    const objects = await renderChart()
    const registry = readRegistry(find(objects, 'ConfigMap', 'kaos-mcp-runtimes')!.data['runtimes.yaml'])
    const installation = readInstallation(installationIn(objects))
    const images = [
      ...podSpecs(objects).flatMap(({ containers }) => containers.map(({ image }) => image)),
      ...Object.values(installation.images),
      ...[...registry.entries.values()].map((entry) => ('image' in entry ? entry.image : entry.problem)),
    ]

    expect(images.length).toBeGreaterThanOrEqual(10)
    expect(images.filter((image) => !/:v?\d[^:/]*$|:main-v\d[^:/]*$|@sha256:/.test(image))).toEqual([])
  })

  it('is what manifests/install holds as plain YAML', async () => {
    expect(await staleInstallFiles(await helmPath()), 'run "node scripts/install-yaml.ts"').toEqual([])
  })

  it('changes nothing in the pods of the broker with its version, so that an upgrade restarts none', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'kaos-chart-'))
    try {
      await cp(chartFolder, folder, { recursive: true })
      const file = join(folder, 'Chart.yaml')
      await writeFile(file, (await readFile(file, 'utf8')).replaceAll(/(ersion): \d.*/g, '$1: 9.9.9'))

      const [now, next] = await Promise.all([renderChart(), renderChart({}, { chart: folder })])

      expect(find(next, 'Deployment')).not.toEqual(find(now, 'Deployment'))
      expect(find(next, 'StatefulSet')!.spec).toEqual(find(now, 'StatefulSet')!.spec)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })
})

describe('values', () => {
  it('are all tried here', () => {
    const leaves = leavesOf(defaults)

    expect(leaves.filter((path) => !(path in effects) && !isWithoutEffect(path))).toEqual([])
    expect(Object.keys(effects).filter((path) => !leaves.some((leaf) => leaf === path || leaf.startsWith(`${path}.`)))).toEqual(
      [],
    )
  })

  it.each(Object.entries(effects))('have an effect: %s', async (path, sample) => {
    const { value, beside, also } = sample

    const [before, after] = await Promise.all([
      beside ? renderChart(beside) : byDefault,
      renderChart({ ...valuesWith(path, value, beside), ...also }),
    ])

    expect(after).not.toEqual(before)
    for (const text of sample.shows ?? []) expect(JSON.stringify(after)).toContain(text)
  })

  it('of KAOS have an effect or a reason why not', async () => {
    const undecided = kaosValues.filter(({ path, here }) => !isNone(here) && !isRefused(here) && !(path in effects))
    const first = await renderChart()
    const ineffective = kaosValues.filter(({ here }) => isNone(here)).map(({ path }) => path)
    const all = ineffective.reduce<Values>((values, path) => valuesWith(path, kaosSamples[path], values) as Values, {})

    expect(kaosValues.length).toBeGreaterThan(40)
    expect(undecided.map(({ path }) => path)).toEqual([])
    expect(await renderChart(all)).toEqual(first)
    for (const { path } of kaosValues.filter(({ here }) => isRefused(here))) {
      await expect(renderChart(valuesWith(path, kaosSamples[path])), path).rejects.toThrow(path)
    }
  })

  it.each(refusals)('are refused together where they contradict: %s', async (_title, values, told) => {
    await expect(renderChart(values)).rejects.toThrow(told)
  })

  it.each(nonsense)('are refused when they make no sense: %s %j', (path, value) => {
    expect(isTaken(valuesWith(path, value))).toBe(false)
  })

  it('are held against the schema, with defaults and with everything set', async () => {
    const mistake = renderChart({ controllerManager: { replica: 2 } })

    expect(isTaken(defaults) || isTaken.errors).toBe(true)
    expect(isTaken(allSamples) || isTaken.errors).toBe(true)
    for (const [path, { value }] of Object.entries(effects))
      expect(isTaken(valuesWith(path, value)) || isTaken.errors, path).toBe(true)
    await expect(mistake).rejects.toThrow(/additional properties 'replica' not allowed/)
  })
})

describe('the installation', () => {
  it('is understood by the operator, with its own defaults where nothing is set', async () => {
    const installation = readInstallation(installationIn(await renderChart()))

    expect(installation).toMatchObject({
      namespace: 'kaos-system',
      clusterDomain: 'cluster.local',
      images: { host: 'docker.io/library/kaos-actors:0.1.0' },
      broker: { url: 'nats://kaos-nats.kaos-system.svc.cluster.local:4222' },
      telemetry: { endpoint: '' },
      logLevel: 'INFO',
      networkPolicy: { enabled: false },
      forbidden: [],
    })
    expect(installation.telemetry).not.toHaveProperty('enabled')
    expect(installation.resources.agent).toHaveProperty('limits')
    const { images, broker } = installation
    const ownDefaults = readInstallation({ namespace: 'kaos-system', images, broker, telemetry: { endpoint: '' } })
    expect(installation).toEqual(ownDefaults)
  })

  it('holds every value that concerns agents', async () => {
    const installation = readInstallation(installationIn(await renderChart(allSamples, { namespace: 'elsewhere' })))

    expect(installation).toEqual({
      namespace: 'elsewhere',
      clusterDomain: 'example.internal',
      images: { host: 'registry.example/own:1', litellm: 'registry.example/litellm:1', ollama: 'registry.example/ollama:1' },
      imagePullPolicy: 'Always',
      imagePullSecrets: ['pull'],
      hostCommand: ['node', '/kaos.js'],
      workingDir: '/work',
      broker: {
        url: 'tls://broker.example:4222',
        credentials: { secretName: 'broker', form: 'creds' },
        ca: { configMapName: 'broker-ca', key: 'root.pem' },
      },
      telemetry: { enabled: true, endpoint: 'http://collector:4317' },
      retention: { days: 0 },
      logLevel: 'DEBUG',
      resources: {
        agent: { limits: { memory: '1Gi' } },
        toolServer: { requests: { cpu: '10m' } },
        toolRuntime: { limits: { memory: '2Gi' } },
        modelProxy: { limits: { memory: '3Gi' } },
        hostedModel: { limits: { 'nvidia.com/gpu': 1 } },
      },
      podSecurityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
      networkPolicy: { enabled: true, ingressFrom: [{ namespaceSelector: {} }], egress: [{ ports: [{ port: 443 }] }] },
      forbidden: ['hostPath', 'privileged'],
    })
  })

  it('rolls the operator when it changes, and only then', async () => {
    const [now, again, changed] = await Promise.all([renderChart(), renderChart(), renderChart({ logLevel: 'TRACE' })])
    const checksum = (objects: readonly Rendered[]) => find(objects, 'Deployment')!.spec.template.metadata.annotations

    expect(checksum(again)).toEqual(checksum(now))
    expect(checksum(changed)).not.toEqual(checksum(now))
  })

  it('tells the tool runtimes as the operator reads them, those of the user before those of the chart', async () => {
    const values = {
      mcpRuntimes: { custom: { slack: { image: 'own/slack:2' }, mine: { image: 'own/mine:1', requiredEnv: ['KEY'] } } },
    }

    const registry = readRegistry(find(await renderChart(values), 'ConfigMap', 'kaos-mcp-runtimes')!.data['runtimes.yaml'])

    expect([...registry.entries.keys()].toSorted()).toEqual([
      'fastmcp-codemode',
      'kubernetes',
      'mine',
      'pctx-codemode',
      'python-string',
      'slack',
    ])
    expect(registry.entries.get('python-string')).toMatchObject({ paramsEnvVar: 'MCP_TOOLS_STRING', transport: 'http' })
    expect(registry.entries.get('kubernetes')).toMatchObject({ args: ['--port', '8000'] })
    expect(registry.entries.get('slack')).toMatchObject({ image: 'own/slack:2', requiredEnv: [] })
    expect(registry.entries.get('mine')).toMatchObject({ requiredEnv: ['KEY'] })
  })
})

describe('the definitions', () => {
  const definitionsOf = (objects: readonly Rendered[]) => objects.filter(({ kind }) => kind === 'CustomResourceDefinition')

  it('are those of manifests/crds, and stay when the chart goes', async () => {
    const found = definitionsOf(await renderChart())

    expect(found.map(({ spec }) => spec)).toEqual([...customResourceDefinitions().values()].map(({ spec }) => spec))
    for (const { metadata } of found) expect(metadata.annotations).toEqual({ 'helm.sh/resource-policy': 'keep' })
  })

  it('go with the chart, or are no part of it, when that is asked for', async () => {
    const [going, none] = await Promise.all([renderChart({ crds: { keep: false } }), renderChart({ crds: { enabled: false } })])

    expect(definitionsOf(going).map(({ metadata }) => metadata.annotations)).toEqual([undefined, undefined, undefined])
    expect(definitionsOf(none)).toEqual([])
  })
})

describe('rights', () => {
  it('are a Role in each watched namespace, and nothing of the cluster', async () => {
    const [everywhere, limited] = await Promise.all([renderChart(), renderChart({ watchNamespaces: ['a', 'b'] })])
    const inNamespace = (namespace: string) => rightsIn(limited).filter((right) => right.namespace === namespace)
    const withoutPlace = (rights: ReturnType<typeof rightsIn>) => rights.map(({ namespace: _namespace, ...right }) => right)

    expect(limited.filter(({ kind }) => kind.startsWith('ClusterRole'))).toEqual([])
    const shared = rightsIn(everywhere).filter(({ namespace }) => namespace === undefined)
    const itself = (name: string) => ({ group: '', resource: 'namespaces', verb: 'watch', names: [name] })
    expect(withoutPlace(inNamespace('a'))).toEqual([...shared, itself('a')])
    expect(withoutPlace(inNamespace('b'))).toEqual([...shared, itself('b')])
    expect(inNamespace('kaos-system')).toEqual(rightsIn(everywhere).filter(({ namespace }) => namespace === 'kaos-system'))
  })

  it('are without wildcards, commands in pods, and writes to leases of others', async () => {
    const rights = rightsIn(await renderChart())

    expect(rights.filter((right) => [right.group, right.resource, right.verb].includes('*'))).toEqual([])
    expect(
      rights.filter(({ resource }) => /^(pods\/|roles|rolebindings|clusterrole|serviceaccounts\/token|nodes)/.test(resource)),
    ).toEqual([])
    for (const { namespace, verb, names } of rights.filter(({ resource }) => resource === 'leases')) {
      expect(namespace).toBe('kaos-system')
      if (verb !== 'create') expect(names).toBeDefined()
    }
  })
})

describe('the broker', () => {
  it.each([
    ['OneServer', 1, true],
    ['ThreeServers', 3, false],
    ['ThreeServersSynced', 3, true],
  ] as const)('has the servers, copies and syncs of its durability: %s', async (durability, servers, isSynced) => {
    const objects = await renderChart({ nats: { durability } })
    const config = find(objects, 'ConfigMap', 'kaos-nats')!.data['nats.conf'] as string

    expect(find(objects, 'StatefulSet')!.spec.replicas).toBe(servers)
    expect(find(objects, 'Deployment')!.spec.template.spec.containers[0].args).toContain(`--stream-replicas=${servers}`)
    expect(config.includes('sync_interval: always')).toBe(isSynced)
    expect(find(objects, 'PodDisruptionBudget', 'kaos-nats') !== undefined).toBe(servers > 1)
  })

  it.each([
    ['one', {}],
    ['three', { nats: { durability: 'ThreeServers' } }],
    ['a user', { broker: { credentials: { secretName: 's', form: 'user' } } }],
    ['a token', { broker: { credentials: { secretName: 's', form: 'token' } } }],
  ])('has a configuration that the server takes: %s', async (_title, values) => {
    const folder = await mkdtemp(join(tmpdir(), 'kaos-nats-'))
    try {
      const text = find(await renderChart(values), 'ConfigMap', 'kaos-nats')!.data['nats.conf'] as string
      // The one path of a pod that a test may not write to.
      await writeFile(join(folder, 'nats.conf'), text.replace('"/data"', JSON.stringify(folder)))
      const { path } = await findServer({ env: process.env, say: () => {} })
      const env = { POD_NAME: 'kaos-nats-0', BROKER_USER: 'u', BROKER_PASSWORD: 'p', BROKER_TOKEN: 't' }

      const { stderr, stdout } = await run(path, ['-t', '-c', join(folder, 'nats.conf')], { env })

      expect(`${stdout}${stderr}`).toContain('is valid')
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })

  it('is ready for its clients when its streams are, and is watched only by who is named', async () => {
    const [closed, open] = await Promise.all([
      renderChart({ networkPolicy: { enabled: true } }),
      renderChart({ nats: { networkPolicy: { monitorFrom: [{ podSelector: {} }] } } }),
    ])
    const ingress = (objects: readonly Rendered[], name: string) =>
      (find(objects, 'NetworkPolicy', name)!.spec.ingress as readonly { readonly ports: readonly { readonly port: string }[] }[])
        .flatMap(({ ports }) => ports)
        .map(({ port }) => port)

    expect(find(closed, 'StatefulSet')!.spec.template.spec.containers[0].startupProbe.httpGet.path).toBe('/healthz')
    expect(ingress(closed, 'kaos-nats')).toEqual(['nats'])
    expect(ingress(closed, 'kaos-operator')).toEqual(['metrics'])
    expect(ingress(open, 'kaos-nats')).toEqual(['nats', 'monitor'])
  })

  it("is not there when another one is named, and its credentials are the operator's own", async () => {
    const objects = await renderChart(allSamples)
    const { containers, volumes } = podSpecs(objects)[0]!
    const env = Object.fromEntries(containers[0]!.env.map(({ name, value }) => [name, value]))

    expect(find(objects, 'StatefulSet')).toBeUndefined()
    expect(env).toMatchObject({
      NATS_URL: 'tls://broker.example:4222',
      NATS_CREDS: '/etc/kaos/broker/nats.creds',
      NATS_CA: '/etc/kaos/broker/ca.crt',
    })
    expect(JSON.stringify(volumes)).toContain('"name":"broker-admin"')
  })
})

interface PodSpec {
  readonly containers: readonly {
    readonly image: string
    readonly env: readonly { readonly name: string; readonly value?: string }[]
  }[]
  readonly volumes: readonly unknown[]
}

function podSpecs(objects: readonly Rendered[]): readonly PodSpec[] {
  return objects.filter(({ kind }) => kind === 'Deployment' || kind === 'StatefulSet').map(({ spec }) => spec.template.spec)
}

/** Paths of all values that are no map; a map that is empty by default is one value. */
function leavesOf(value: unknown, path = ''): readonly string[] {
  const isMap = typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length > 0
  if (!isMap || path in effects) return [path]
  return Object.entries(value).flatMap(([key, inner]) => leavesOf(inner, path === '' ? key : `${path}.${key}`))
}

function isWithoutEffect(path: string): boolean {
  const row = kaosValues.find((each) => each.path === path)
  return row !== undefined && (isNone(row.here) || isRefused(row.here))
}

const isNone = (here: string) => /^none: \S/.test(here)
const isRefused = (here: string) => /^refused: \S/.test(here)

/** The table of docs/kubernetes.md. */
async function kaosTable(): Promise<readonly { readonly path: string; readonly here: string }[]> {
  const page = await readFile(join(root, 'docs', 'kubernetes.md'), 'utf8')
  const [, table = ''] = page.split(/<!-- The table is read by .*/)
  return [...table.matchAll(/^\| `([\w.]+)` \| ([^|]+) \|$/gm)].map(([, path, here]) => ({ path: path!, here: here! }))
}

/** Values of KAOS that do nothing here, or are refused, other than they are by default. */
const kaosSamples: Readonly<Record<string, unknown>> = {
  'defaultImages.mcpServer': 'axsauze/kaos-mcp-server:0.7.7',
  'defaultImages.memoryService': 'axsauze/kaos-memory-service:0.4.7',
  'gatewayAPI.enabled': true,
  'gatewayAPI.createGateway': true,
  'gatewayAPI.gatewayName': 'other',
  'gatewayAPI.gatewayClassName': 'envoy',
  'gatewayAPI.gatewayNamespace': 'other',
  'gatewayAPI.listenerPort': 8080,
  'gatewayAPI.listenerProtocol': 'HTTPS',
  'gateway.defaultTimeouts.agent': '10s',
  'gateway.defaultTimeouts.modelAPI': '10s',
  'gateway.defaultTimeouts.mcp': '10s',
  security: { userAuth: { issuer: 'https://issuer.example' } },
  harnessRuntimes: { custom: {} },
}
