/** How `kaos up` begins and ends: ports, signals, a broker that dies, hosts beside it. */
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Folder } from '../support/cli.ts'

const stdioServer = join(import.meta.dirname, '..', 'support', 'mcp-stdio-server.ts')
const MANIFEST = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: writer }
spec: { modelAPI: models, model: scripted }
`
/** Long enough for two signals, short enough to be waited for. */
const SCRIPT = 'rules: [{ when: {}, reply: { text: done, delayMs: 2500 } }]'
const UP = ['up', '-f', 'team.yaml', '--port', '0']

let folder: Folder
beforeEach(async () => {
  folder = await Folder.create()
  await writeFile(join(folder.path, 'team.yaml'), MANIFEST)
  await writeFile(join(folder.path, 'team.script.yaml'), SCRIPT)
})
afterEach(() => folder.remove())

async function upWithWork() {
  const up = await folder.start(UP, 'Ctrl-C ends it')
  await folder.kaos(['task', 'send', 'writer', 'hello', '--id', 'one'])
  return up
}

const result = async () => JSON.parse((await folder.kaos(['task', 'watch', 'writer_one', '--json'])).stdout)

it('takes a Ctrl-C that arrives twice, from the terminal and from npm, for one and finishes', async () => {
  const up = await upWithWork()

  up.child.kill('SIGINT')
  up.child.kill('SIGTERM')

  expect(await up.end()).toBe(0)
  await folder.start(UP, 'Ctrl-C ends it')
  expect(await result()).toMatchObject({ state: 'completed' })
})

it('leaves at once on a second Ctrl-C, and the work goes on at the next start', async () => {
  const up = await upWithWork()
  up.child.kill('SIGINT')
  await up.waitFor('press Ctrl-C again')
  await delay(400) // what comes sooner is the same Ctrl-C

  expect(await up.end()).toBe(130)
  await folder.start(UP, 'Ctrl-C ends it')
  expect(await result()).toMatchObject({ state: 'completed' })
})

it('ends soon, and says why, when its broker is killed', async () => {
  const up = await upWithWork()
  const pid = Number(await readFile(join(folder.path, '.kaos', 'nats', 'nats-server.pid'), 'utf8'))
  const ended = new Promise((resolve) => up.child.once('close', resolve))

  process.kill(pid, 'SIGKILL')

  await up.waitFor('broker_failed', 10_000)
  expect(await ended).toBe(3)
})

/** Two of each kind: what was started for the first must not keep the process alive. */
const UNRESOLVED = {
  'a variable of a tool server': {
    lacks: 'NOT_SET_TOKEN',
    manifest: `---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: local }
spec: { runtime: stdio, params: '{"command": "${process.execPath}", "args": ["${stdioServer}"]}' }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: remote }
spec: { runtime: stdio, params: '{"command": "node", "passEnv": ["NOT_SET_TOKEN"]}' }
`,
  },
  'the key of a model': {
    lacks: 'KAOS_SECRET_GATEWAY_KEY',
    manifest: `---
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: gateway }
spec:
  mode: Proxy
  proxyConfig:
    models: ["*"]
    apiBase: http://127.0.0.1:1/v1
    apiKey: { valueFrom: { secretKeyRef: { name: gateway, key: key } } }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: reader }
spec: { modelAPI: gateway, model: m }
`,
  },
}
for (const [what, { lacks, manifest }] of Object.entries(UNRESOLVED)) {
  it(`ends with a mistake when ${what} is not set, as a host does`, async () => {
    await writeFile(join(folder.path, 'lacking.yaml'), MANIFEST + manifest)

    const alone = await folder.kaos(['up', '-f', 'lacking.yaml', '--port', '0'])
    await folder.start(UP, 'Ctrl-C ends it')
    const host = await folder.kaos(['host', '-f', 'lacking.yaml'])

    expect([alone.code, host.code]).toEqual([2, 2])
    for (const { stderr } of [alone, host]) expect(stderr).toContain(lacks)
  })
}

it('says that its port is taken, and takes another', async () => {
  const other = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => other.once('listening', resolve))
  const { port } = other.address() as { port: number }

  const up = await folder.start(['up', '-f', 'team.yaml', '--port', String(port)], 'Ctrl-C ends it')

  expect(up.output).toContain(`port ${port} is taken`)
  other.close()
})

it('prints one JSON document on demand', async () => {
  const up = await folder.start([...UP, '--json'], '\n}\n')

  const document = JSON.parse(up.output.slice(up.output.indexOf('{')))
  expect(document).toMatchObject({ pid: up.pid, namespace: 'default', agents: ['writer'] })
  expect(document.url).toMatch(/^nats:\/\/127\.0\.0\.1:\d+$/)
})

it('is joined by a host of the same folder', async () => {
  await folder.start(UP, 'Ctrl-C ends it')

  const host = await folder.start(['host', '-f', 'team.yaml'], 'ready h')

  expect(await host.end()).toBe(0)
})

it('is joined by a host of tool servers alone, as a pod of one is', async () => {
  await folder.start(UP, 'Ctrl-C ends it')
  const tools = 'apiVersion: kaos.tools/v1alpha1\nkind: MCPServer\nmetadata: { name: sums }\nspec: { runtime: calculator }\n'
  await writeFile(join(folder.path, 'tools.yaml'), tools)

  const host = await folder.start(['host', '-f', 'tools.yaml', '--only', 'tool/sums'], 'ready h')
  const none = await folder.kaos(['host', '-f', 'tools.yaml', '--only', 'agent/sums'])

  expect(await host.end()).toBe(0)
  expect([none.code, none.stderr]).toEqual([2, expect.stringContaining('--only "agent/sums" is no agent or tool server')])
})
