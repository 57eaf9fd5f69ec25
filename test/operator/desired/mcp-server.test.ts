import { describe, expect, it } from 'vitest'
import { parseManifests } from '../../../manifests/load.ts'
import { desiredMcpServer } from '../../../operator/desired/mcp-server.ts'
import { readRegistry } from '../../../operator/desired/runtimes.ts'
import { childrenOf, configText, container, env, installation, mcpServer, planServer, pod } from './cluster.ts'

const loaded = (plan: Parameters<typeof configText>[0]) =>
  parseManifests([{ file: 'kaos.yaml', text: configText(plan) }]).mcpServers[0]!.spec
const token = { name: 'SLACK_BOT_TOKEN', valueFrom: { secretKeyRef: { name: 'slack', key: 'token' } } }
const team = { name: 'SLACK_TEAM_ID', value: 'T1' }

describe('what stands behind an MCPServer', () => {
  it('is its manifest, a Deployment of one pod and a Service, under the names of KAOS', () => {
    expect(childrenOf(planServer(mcpServer('notes'))).map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual([
      'ConfigMap mcpserver-notes',
      'Deployment mcpserver-notes',
      'Service mcpserver-notes',
    ])
  })

  it.each([
    ['echo', undefined, undefined],
    ['http-fetch', 'hosts: [example.org]', 'hosts: [example.org]'],
    ['typescript', './tools/weather.ts', '/app/tools/weather.ts'],
    ['files', '/data', 'root: /data\nwritable: false\n'],
    ['url', 'https://tools.test/mcp', 'https://tools.test/mcp'],
  ])('is our tool server for the runtime %s', (runtime, params, expected) => {
    const plan = planServer(mcpServer('notes', { runtime, ...(params !== undefined && { params }) }))

    expect(pod(plan).containers.map(({ name, image }) => `${name} ${image}`)).toEqual(['mcp-server registry.test/kaos:1'])
    expect(container(plan).args).toEqual(['host', '--file', '/etc/kaos/manifest/kaos.yaml', '--only', 'notes'])
    expect(loaded(plan)).toMatchObject({ runtime, ...(expected !== undefined && { params: expected }) })
  })

  it('is an image with our tool server beside it, which alone knows the broker', () => {
    const broker = { url: 'nats://nats:4222', credentials: { secretName: 'broker' } }

    const plan = planServer(
      mcpServer('sums', { runtime: 'python-string', params: 'def add(a: int, b: int): return a + b  # $(HOME)' }),
      { broker },
    )

    expect(pod(plan).containers.map(({ name, image }) => `${name} ${image}`)).toEqual([
      'mcp-server registry.test/mcp-python-string:1',
      'tool-server registry.test/kaos:1',
    ])
    expect(env(plan).MCP_TOOLS_STRING).toBe('def add(a: int, b: int): return a + b  # $$(HOME)')
    expect(Object.keys(env(plan)).filter((name) => name.startsWith('NATS'))).toEqual([])
    expect(container(plan).volumeMounts.map(({ name }) => name)).toEqual(['tmp'])
    expect(env(plan, 'tool-server')).toMatchObject({ NATS_URL: 'nats://nats:4222', NATS_CREDS: '/etc/kaos/broker/nats.creds' })
    expect(container(plan, 'tool-server').args).toEqual(expect.arrayContaining(['--health', '*:8001']))
    expect(loaded(plan)).toMatchObject({ runtime: 'url', params: 'http://127.0.0.1:8000/mcp' })
  })

  it('takes flags that stand as the command for arguments, as in the entry of KAOS for slack', () => {
    const main = container(planServer(mcpServer('chat', { runtime: 'slack', container: { env: [token, team] } })))

    expect(main).not.toHaveProperty('command')
    expect(main.args).toEqual(['--transport', 'http', '--port', '8000'])
    expect(main.env).toEqual(expect.arrayContaining([token, team]))
  })

  it('gives the rights of its ServiceAccount to the container that does the work only', () => {
    const plan = planServer(mcpServer('cluster', { runtime: 'kubernetes', serviceAccountName: 'viewer' }))

    expect(pod(plan)).toMatchObject({ serviceAccountName: 'viewer', automountServiceAccountToken: false })
    expect(container(plan).volumeMounts.map(({ mountPath }) => mountPath)).toContain(
      '/var/run/secrets/kubernetes.io/serviceaccount',
    )
    expect(container(plan, 'tool-server').volumeMounts.map(({ mountPath }) => mountPath)).toEqual(['/tmp', '/etc/kaos/manifest'])
  })

  it.each([
    [
      'a runtime that nobody knows',
      { runtime: 'fortran' },
      'UnknownRuntime',
      /"fortran".*calculator, custom, echo.*python-string, slack/,
    ],
    ['a runtime that cannot be used', { runtime: 'broken' }, 'UnknownRuntime', /"broken".*transport/],
    ['"custom" without an image', { runtime: 'custom' }, 'SpecInvalid', /spec\.container\.image/],
    [
      'a variable that the runtime needs',
      { runtime: 'slack', container: { env: [team] } },
      'RequiredEnvMissing',
      /needs SLACK_BOT_TOKEN: set it in spec\.container\.env/,
    ],
    ['two of them', { runtime: 'slack' }, 'RequiredEnvMissing', /needs SLACK_BOT_TOKEN, SLACK_TEAM_ID: set them/],
    [
      'a variable that params pass on',
      { runtime: 'stdio', params: 'command: mcp\npassEnv: [TOKEN]' },
      'RequiredEnvMissing',
      /needs TOKEN/,
    ],
    [
      'a variable that a header is made of',
      { runtime: 'url', params: 'url: https://t.test/mcp\nheadersFromEnv: { Authorization: TOKEN }' },
      'RequiredEnvMissing',
      /needs TOKEN/,
    ],
    [
      'params that no variable holds',
      { runtime: 'python-string', params: 'x'.repeat(131_072) },
      'SpecInvalid',
      /131072 bytes.*MCP_TOOLS_STRING/,
    ],
  ])('is refused for %s', (_what, spec, reason, message) => {
    expect(planServer(mcpServer('notes', spec))).toMatchObject({ is: 'refused', reason, message: expect.stringMatching(message) })
  })

  it('takes a variable that podSpec sets, or a source of many, for set', () => {
    const byName = { containers: [{ name: 'mcp-server', env: [token, team] }] }
    const bySource = { containers: [{ name: 'mcp-server', envFrom: [{ secretRef: { name: 'slack' } }] }] }

    const plans = [byName, bySource].map((podSpec) => planServer(mcpServer('chat', { runtime: 'slack', podSpec })))

    expect(plans.map(({ is }) => is)).toEqual(['children', 'children'])
  })

  it('runs an image of the user', () => {
    const plan = planServer(mcpServer('mine', { runtime: 'custom', container: { image: 'mine:1', command: ['serve'] } }))

    expect(container(plan)).toMatchObject({ image: 'mine:1', command: ['serve'] })
    expect(container(plan)).not.toHaveProperty('args')
  })
})

describe('the registry of runtimes', () => {
  const planWith = (text: string | undefined, runtime: string) =>
    desiredMcpServer(mcpServer('notes', { runtime }), { installation: installation(), registry: readRegistry(text) })

  it.each([
    [undefined, /there is no ConfigMap kaos-mcp-runtimes/],
    ['runtimes: [', /has no mapping "runtimes"/],
    ['other: {}', /has no mapping "runtimes"/],
  ])('that is %j stops only who needs it, and says so', (text, problem) => {
    expect(planWith(text, 'echo').is).toBe('children')
    expect(planWith(text, 'python-string')).toMatchObject({ reason: 'UnknownRuntime', message: expect.stringMatching(problem) })
  })

  it('goes before the runtimes that are built in, and may say more than is known', () => {
    expect(container(planWith('runtimes: { echo: { image: "mine:1", maintainer: me } }', 'echo')).image).toBe('mine:1')
  })

  it('rolls the pods when an entry changes', () => {
    const image = (text: string) => container(planWith(text, 'x')).image

    expect(image('runtimes: { x: { image: "a:2" } }')).not.toBe(image('runtimes: { x: { image: "a:1" } }'))
  })
})
