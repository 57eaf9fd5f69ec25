/** A whole system with an HTTP door, in this process: a real broker, agents, and a model that follows rules and counts. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import OpenAI from 'openai'
import type { Rule } from '../../actors/testing/model-script.ts'
import { type ModelServer, type RecordedRequest, startModelServer } from '../../actors/testing/model-server.ts'
import { loadSystem } from '../../cli/running/declared.ts'
import { type HttpDoor, serveHttp } from '../../cli/running/gateway.ts'
import { type RunningSystem, startSystem } from '../../cli/running/system.ts'
import type { GatewayOptions } from '../../gateway/app.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from '../support/broker.ts'

/** `teller` has nothing to call, `helper` may ask it, `sleeper` is answered by nobody. */
export const MANIFEST = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: echo }
spec: { runtime: echo }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: teller }
spec: { modelAPI: models, model: m, config: { description: Tells. } }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: helper }
spec: { modelAPI: models, model: m, mcpServers: [echo], agentNetwork: { access: [teller] } }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: sleeper }
spec: { external: true }
`

export const NASTY = 'It\'s "quoted",\nsplit\r\n\r\ndata: [DONE]\n\nüñï 🦜🏳️‍🌈 \u2028 \u2029 \u0085 \v\f\u001c {"a": 1} \\n'

export interface Stand extends AsyncDisposable {
  readonly broker: TestBroker
  readonly model: ModelServer
  readonly system: RunningSystem
  readonly http: HttpDoor
  /** Of the door, without a path. */
  readonly url: string
  readonly client: OpenAI
  /** Calls back at each chat request that the model gets, before it is answered. */
  onRequest: (request: RecordedRequest) => void
  /** A chat request by hand; `body` is JSON unless it is text. */
  post(body: object | string, options?: PostOptions): Promise<Response>
}

export interface PostOptions {
  readonly agent?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
}

export async function startStand(
  rules: readonly Rule[],
  limits: Partial<Pick<GatewayOptions, 'waitMs' | 'requestsMax' | 'takeMs' | 'largeBodiesBytesMax'>> = {},
): Promise<Stand> {
  const folder = await mkdtemp(join(tmpdir(), 'kaos-test-http-'))
  const file = join(folder, 'team.yaml')
  await writeFile(file, MANIFEST)
  const broker = await startTestBroker()
  const model = await startModelServer({ script: { rules: [...rules] }, onRequest: (request) => stand.onRequest(request) })
  const log = silentLog()
  const http = await serveHttp({ host: '127.0.0.1', port: 0 }, { log, ...limits })
  const system = await startSystem(loadSystem([file]), {
    broker: broker.settings,
    storeDir: folder,
    port: 0,
    env: { MODEL_API_URL: model.url },
    log,
    http,
    say: () => {},
  })
  http.watch(system.bus)
  await http.untilReady()
  const stand: Stand = {
    broker,
    model,
    system,
    http,
    url: http.url,
    client: new OpenAI({ baseURL: `${http.url}/v1`, apiKey: 'none', maxRetries: 0 }),
    onRequest: () => {},
    post(body, { agent, headers, signal } = {}) {
      const path = `${agent === undefined ? '' : `/${agent}`}/v1/chat/completions`
      return fetch(http.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
        ...(signal && { signal }),
      })
    },
    async [Symbol.asyncDispose]() {
      await system.stop(0)
      await http.stop()
      await model.stop()
      await broker.stop()
      await rm(folder, { recursive: true, force: true })
    },
  }
  return stand
}

export const says = (content: string) => [{ role: 'user' as const, content }]

/** The events of a stream by the rules of the format: what a reader of lines sees. */
export function eventsOf(text: string): readonly string[] {
  return text
    .split('\n\n')
    .filter((event) => event.startsWith('data: '))
    .map((event) => event.slice('data: '.length))
}
