/** `kaos operator`: what it says when it begins, and where it cannot, with its exit code. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { ScriptedApiServer } from '../operator/kube/api-server.ts'
import { Folder } from '../support/cli.ts'

const INSTALLATION = `
namespace: kaos-system
images: { host: kaos:1, litellm: litellm:1, ollama: ollama:1 }
broker: { url: "nats://127.0.0.1:1" }
`
/** Nobody listens on port 1. */
const KUBECONFIG = `
apiVersion: v1
kind: Config
current-context: here
contexts: [{ name: here, context: { cluster: here, user: me } }]
clusters: [{ name: here, cluster: { server: "http://127.0.0.1:1" } }]
users: [{ name: me, user: { token: t } }]
`

let folder: Folder
beforeAll(async () => {
  folder = await Folder.create()
  await writeFile(join(folder.path, 'installation.yaml'), INSTALLATION)
  await writeFile(join(folder.path, 'kubeconfig'), KUBECONFIG)
})
afterAll(() => folder.remove())

it.each([
  ['a configuration that is not there', [], {}, 2, 'could not read the configuration "/etc/kaos/installation.yaml"'],
  ['a kubeconfig that is not there', ['--config', 'installation.yaml'], { KUBECONFIG: 'nowhere' }, 2, 'kubeconfig "nowhere"'],
  [
    'a cluster that does not answer',
    ['--config', 'installation.yaml'],
    { KUBECONFIG: 'kubeconfig' },
    3,
    'could not list deployments',
  ],
  ['streams on two servers', ['--stream-replicas', '2'], {}, 2, 'it must be 1, 3 or 5'],
])('ends with %s', async (_what, args, env, code, words) => {
  const finished = await folder.kaos(['operator', ...args], { env })

  expect(finished.stderr).toContain(words)
  expect(finished.code).toBe(code)
})

it('serves metrics alone where health is off', async () => {
  const api = await ScriptedApiServer.start()
  onTestFinished(() => api[Symbol.asyncDispose]())
  await writeFile(join(folder.path, 'scripted'), KUBECONFIG.replace('http://127.0.0.1:1', api.url))
  const flags = ['--config', 'installation.yaml', '--health', 'off', '--metrics', '127.0.0.1:0']

  const operator = await folder.start(['operator', ...flags], 'metrics ', { KUBECONFIG: 'scripted' })
  const [, place] = /^metrics (http:\S+)$/m.exec(operator.output)!
  const answers = await Promise.all(['metrics', 'livez'].map((page) => fetch(`${place}/${page}`)))
  const code = await operator.end('SIGTERM')

  expect(answers.map(({ status }) => status)).toEqual([200, 404])
  expect(operator.output).not.toContain('health ')
  expect(code).toBe(0)
})
