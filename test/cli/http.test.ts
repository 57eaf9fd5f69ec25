/** `--http` of `kaos up` and `kaos host`: real processes, also killed while somebody waits. */
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import OpenAI from 'openai'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Rule } from '../../actors/testing/model-script.ts'
import { type ModelServer, type RecordedRequest, startModelServer } from '../../actors/testing/model-server.ts'
import { type NatsBus, openBus } from '../../bus/open.ts'
import { createStreams } from '../../bus/streams.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { everyAddress } from '../../cli/process/address.ts'
import { inventoryOf, loadSystem } from '../../cli/running/declared.ts'
import { hostFront } from '../../cli/running/front.ts'
import { silentLog } from '../../telemetry/log.ts'
import { MANIFEST, says } from '../gateway/stand.ts'
import { startTestBroker, type TestBroker } from '../support/broker.ts'
import { Folder, SAMPLE, type Started } from '../support/cli.ts'

const MESSAGES = says('hello')
const urlOf = ({ output }: Started) => /HTTP {4}(http:\S+)\/v1 /.exec(output)![1]!

function clientOf(url: string, maxRetries = 0) {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries, timeout: 30_000 })
}

describe('where a process serves', () => {
  const pod = { KUBERNETES_SERVICE_HOST: '10.0.0.1' }
  const port8000 = { host: everyAddress(), port: 8_000 }
  const own = { host: '127.0.0.1', port: 9_000 }

  it.each([
    ['nowhere when nothing is said', {}, {}, true, { http: 'off', health: 'off' }],
    ['both on port 8000 of a pod', {}, pod, true, { http: port8000, health: 'off' }],
    ['health alone in the pod of a tool server', {}, pod, false, { http: 'off', health: port8000 }],
    ['health alone in a pod without HTTP', { http: 'off' }, pod, true, { http: 'off', health: port8000 }],
    ['health at an address of its own', { health: own }, pod, true, { http: port8000, health: own }],
    ['HTTP where it is said', { http: own }, {}, true, { http: own, health: 'off' }],
  ] as const)('is %s', (_what, options, env, hasAgents, front) => {
    expect(hostFront(options, env, { hasAgents })).toEqual(front)
  })
})

describe('kaos up --http', () => {
  let folder: Folder
  beforeEach(async () => {
    folder = await Folder.create()
  })
  afterEach(() => folder.remove())

  it('says where it serves, answers there on the loopback alone, and ends with 0', async () => {
    const up = await folder.start(['up', '-f', SAMPLE, '--port', '0', '--http', '0', '--offline'], 'Ctrl-C ends it')
    const url = urlOf(up)

    const ready = await fetch(`${url}/ready`)
    const answer = await clientOf(url).chat.completions.create({ model: 'analyst', messages: says('what is 6 * 7?') })
    const code = await up.end('SIGTERM')

    expect(answer.choices[0]!.message.content).toContain('42')
    expect(new URL(url).hostname).toBe('127.0.0.1')
    expect(ready.status).toBe(200)
    expect(up.output).toContain(`health  ${url}/health and /ready`)
    expect(code).toBe(0)
    expect(up.output).not.toContain('what is 6 * 7?')
  })

  it('names a port that is taken', async () => {
    const up = await folder.start(['up', '-f', SAMPLE, '--port', '0', '--http', '0', '--offline'], 'Ctrl-C ends it')
    const other = await Folder.create()

    const { code, stderr } = await other.kaos(['up', '-f', SAMPLE, '--http', new URL(urlOf(up)).port])
    await other.remove()

    expect(code).toBe(2)
    expect(stderr).toContain('--http could not listen on 127.0.0.1:')
  })
})

describe('a pod with one agent', () => {
  let folder: Folder
  let broker: TestBroker
  let bus: NatsBus
  let model: ModelServer
  let onRequest: (request: RecordedRequest) => void

  beforeEach(async () => {
    folder = await Folder.create()
    broker = await startTestBroker()
    const file = join(folder.path, 'team.yaml')
    await writeFile(file, MANIFEST)
    bus = await openBus(broker.settings, { namespace: 'default', as: userParty('test'), log: silentLog() })
    await createStreams(bus.connection, inventoryOf(loadSystem([file]), 'default'))
    onRequest = () => {}
  })
  afterEach(async () => {
    await folder.remove()
    await bus.close()
    await model.stop()
    await broker.stop()
  })

  const follow = async (rule: Rule) => {
    model = await startModelServer({ script: { rules: [rule] }, onRequest: (request) => onRequest(request) })
  }
  const startPod = (port = '0', env: Readonly<Record<string, string>> = {}) =>
    folder.start(['host', '-f', 'team.yaml', '--only', 'teller', '--http', port], 'ready ', {
      NATS_URL: broker.url,
      MODEL_API_URL: model.url,
      ...env,
    })
  const ask = (url: string, stream: boolean, key = 'order-17') => {
    const options = { headers: { 'Idempotency-Key': key } }
    // The client repeats what broke; the key makes that harmless.
    const { completions } = clientOf(url, 10).chat
    if (!stream)
      return completions
        .create({ model: 'any', messages: MESSAGES }, options)
        .then((answer) => answer.choices[0]!.message.content)
    return completions.stream({ model: 'any', messages: MESSAGES }, options).finalContent()
  }

  it('answers at the root, whatever the model is called', async () => {
    await follow({ reply: { text: 'told' } })
    const url = urlOf(await startPod())

    const ready = await fetch(`${url}/ready`)
    const card = await (await fetch(`${url}/.well-known/agent-card.json`)).json()

    expect(ready.status).toBe(200)
    expect(await ask(url, false)).toBe('told')
    expect(card).toMatchObject({ name: 'teller', url })
    expect(await (await fetch(`${url}/health`)).json()).toMatchObject({ alive: true, name: 'teller' })
  })

  it.each([
    ['whole', false],
    ['streamed', true],
  ])('that dies when the result is stored costs the caller a retry, and the work nothing: %s', async (_form, stream) => {
    await follow({ reply: { text: 'told' } })
    const first = await startPod('0', { KAOS_CRASH_AT: 'after-conclude' })
    const url = urlOf(first)

    const answer = stream ? retried(() => ask(url, true)) : ask(url, false)
    await first.untilDead()
    await startPod(new URL(url).port)

    expect(await answer).toBe('told')
    expect(model.count()).toBe(1)
  })

  it('that dies while the model thinks is followed by another, which carries on with the same task', async () => {
    await follow({ reply: { text: 'told', delayMs: 300 } })
    const first = await startPod()
    const url = urlOf(first)
    const asked = new Promise<void>((resolve) => {
      onRequest = () => resolve()
    })

    const answer = ask(url, false)
    await asked
    first.child.kill('SIGKILL')
    await once(first.child, 'close')
    await startPod(new URL(url).port)

    expect(await answer).toBe('told')
    expect([...model.countBy('key').keys()]).toEqual(['teller_order-17_0-0'])
    expect((await bus.traces.latest(10)).map(({ task }) => task)).toEqual(['teller_order-17'])
  })

  it('that is told to go finishes what waits, answers it, and ends with 0', async () => {
    await follow({ reply: { text: 'told', delayMs: 300 } })
    const pod = await startPod()
    const asked = new Promise<void>((resolve) => {
      onRequest = () => resolve()
    })

    const answer = ask(urlOf(pod), false)
    await asked
    const code = await pod.end('SIGTERM')

    expect(await answer).toBe('told')
    expect(code).toBe(0)
    expect(model.count()).toBe(1)
  })
})

/** What a caller does whose stream broke off: OpenAI's client repeats a stream only before its first event. */
async function retried<T>(ask: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + 20_000
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (performance.now() > deadline) throw error
    }
  }
}
