/** What is too large or makes no sense at the door: its sender is told, it is put aside, and the next task completes. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { keyOf, rootTaskId } from '../../bus/wire/ids.ts'
import { sha256 } from '../../bus/wire/json.ts'
import { MESSAGE_LIMITS } from '../../bus/wire/limits.ts'
import { agentParty, toolParty } from '../../bus/wire/subjects.ts'
import { serveAsk } from '../../cli/running/ask.ts'
import { silentLog } from '../../telemetry/log.ts'
import type { HostProcess } from '../support/host-process.ts'
import { AGENT, inMiB, MiB, memoryOf, NAMESPACE, Stand, say } from './stand.ts'

/** What JetStream takes of all headers together. */
const HEADER_BYTES_MAX = 64 * 1024 - 1

let stand: Stand
let host: HostProcess
beforeAll(async () => {
  stand = await Stand.start({ model: say((text) => `${text.length} characters`) })
  host = await stand.startHost()
})
afterAll(() => stand[Symbol.asyncDispose]())

describe('a message of 10 MB', () => {
  const large = 'x'.repeat(10 * MiB)

  it('is refused by the client, with the limit of the server', async () => {
    const { max_payload: max } = stand.bus.connection.info!

    expect(() => stand.bus.connection.publish(stand.bus.subjects.door(AGENT), large)).toThrow(/max_payload|payload/i)
    await expect(stand.publish(large)).rejects.toThrow(/payload/i)
    expect(max).toBe(MESSAGE_LIMITS.messageBytesMax)
    expect(await stand.nextTask('four')).toBe('completed: 4 characters')
  })

  it('is refused by the server when a client does not look at the limit', async () => {
    const socket = connect(stand.broker.port, '127.0.0.1')
    let heard = ''
    socket.on('data', (data) => {
      heard += data
    })
    socket.on('error', () => {}) // the server hangs up while we send
    const closed = new Promise((resolve) => socket.on('close', resolve))

    await once(socket, 'connect')
    // It is refused by its announced size; a body on its way would only make the connection break before the reason arrives.
    socket.write(`CONNECT {"verbose":false}\r\nPUB ${stand.bus.subjects.door(AGENT)} ${large.length}\r\n`)
    await closed

    expect(heard).toContain("-ERR 'Maximum Payload Violation'")
    expect(await stand.nextTask('four')).toBe('completed: 4 characters')
  })

  it('is refused by the kaos command before it is sent', async () => {
    const { code, stdout } = await stand.kaos(['task', 'send', AGENT, '-', '--json'], { input: large })

    expect(code).toBe(2)
    expect(JSON.parse(stdout).error).toMatchObject({ code: 'payload_too_large', message: expect.stringContaining('8388608') })
    expect(await stand.mailLeft()).toBe(0)
  })
})

describe('a task of nearly 8 MiB', () => {
  it('goes through the kaos command', async () => {
    const input = 'x'.repeat(MESSAGE_LIMITS.journalBodyBytesMax - 1_024)

    const { code, stdout } = await stand.kaos(['task', 'send', AGENT, '-', '--wait', '--json'], { input })

    expect([code, JSON.parse(stdout).output]).toEqual([0, `${input.length} characters`])
  })

  it('is refused with its size when its journal cannot hold it, and memory stays bounded', async () => {
    const before = memoryOf(host)
    // Each quote is two bytes in JSON.
    const inputs = ['x'.repeat(8 * MiB), '"'.repeat(6 * MiB)]

    for (const input of inputs) {
      const { code, stdout } = await stand.kaos(['task', 'send', AGENT, '-', '--wait', '--json'], { input })

      expect(code).toBe(1)
      expect(JSON.parse(stdout)).toMatchObject({ state: 'rejected', failure: { code: 'payload_too_large' } })
    }
    await stand.untilNoMail()
    expect(await stand.nextTask('four')).toBe('completed: 4 characters')
    expect(inMiB(memoryOf(host).peak - before.now)).toBeLessThan(200)
  })
})

describe('a body that refers to a blob', () => {
  const body = 'y'.repeat(100_000)
  const self = agentParty(AGENT)
  const sha = sha256(body)
  const lies = {
    'of another size, smaller': { bytes: 9 },
    'of another size, larger': { bytes: 8 * MiB },
    'of a size that is not allowed': { bytes: 9 * MiB },
    'of a negative size': { bytes: -1 },
    'of another agent': { owner: agentParty('other') },
    'of a tool server': { owner: toolParty(AGENT) },
    'for another agent': { to: agentParty('other') },
  }

  for (const [what, lie] of Object.entries(lies)) {
    it(`${what} is refused`, async () => {
      const id = `blob ${what}`
      const task = rootTaskId(AGENT, keyOf(NAMESPACE, AGENT, id))
      await stand.bus.blobs.write(self, self, task, sha, body)
      const ref = JSON.stringify({ $blob: { owner: self, to: self, task, sha, bytes: body.length, ...lie } })

      await stand.publish(ref, { 'Nats-Msg-Id': id })

      const result = await stand.resultOf(keyOf(NAMESPACE, AGENT, id))
      expect(result).toMatchObject({ state: 'rejected', failure: { code: 'bad_message' } })
      expect((await stand.deadLetters()).at(-1)).toMatchObject({ text: ref, code: 'bad_message' })
    })
  }

  it('and tells the truth is taken', async () => {
    const task = rootTaskId(AGENT, 'true-blob')
    await stand.bus.blobs.write(self, self, task, sha, body)
    const ref = JSON.stringify({ $blob: { owner: self, to: self, task, sha, bytes: body.length } })

    await stand.publish(ref, { 'Nats-Msg-Id': 'true-blob' })

    expect(await stand.resultOf('true-blob')).toMatchObject({ output: '100000 characters' })
  })
})

describe('wrong tokens', () => {
  const limits = (text: string) => `{"input":"x","limits":${text}}`
  const rejected: Readonly<Record<string, string | Uint8Array>> = {
    'JSON that ends early': '{"input":"x"',
    'JSON with more after it': '{"input":"x"} and more',
    'JSON with a single quote': "{'input':'x'}",
    'an object without an input': '{"inputs":"x"}',
    'two objects': '{"input":"x"}{"input":"y"}',
    'a control character inside JSON text': '{"input":"a\u0007b"}',
    'a byte order mark before JSON that is broken': '\ufeff{"input":',
    'JSON that nests a hundred thousand deep': `{"input":${'['.repeat(100_000)}`,
    'limits that are no object': limits('7'),
    'limits that are null': limits('null'),
    'a negative limit of steps': limits('{"steps":-1}'),
    'a limit of NaN': limits('{"tokens":NaN}'),
    'a limit beyond all numbers': limits('{"tokens":1e999}'),
    'a huge limit of tool calls': limits('{"toolCalls":1e300}'),
    'a limit of half a step': limits('{"steps":1.5}'),
    'a limit in words': limits('{"steps":"many"}'),
    'a time of no seconds': limits('{"seconds":0}'),
    'a time of a thousand years': limits('{"seconds":31557600000}'),
    'a time that ended before it began': limits('{"deadlineAt":-5}'),
    'an empty session': '{"input":"x","session":""}',
    'white space': ' \n\t ',
    nothing: '',
    'bytes that are no text': Uint8Array.from([0xff, 0xfe, 0x00, 0xc3, 0x28]),
    'JSON whose text is not UTF-8': Buffer.concat([Buffer.from('{"input":"Gr'), Buffer.from([0xfc]), Buffer.from('n"}')]),
    'half a character at the end': Buffer.from('Grün').subarray(0, 3),
    'JSON of nearly a megabyte that ends early': `{"input":"${'x'.repeat(MiB - 1_000)}`,
  }
  const accepted: Readonly<Record<string, readonly [string, string]>> = {
    'fields that nobody knows': ['{"input":"four","colour":"red","limits":{"colour":1}}', '4 characters'],
    'control characters in plain text': ['a\u0000\u001b[2Jb', '7 characters'],
    'half of a surrogate pair in JSON': ['{"input":"\\ud800"}', '1 characters'],
    'a list, which is text': ['[1,', '3 characters'],
  }
  const keyFor = (what: string) => keyOf(NAMESPACE, AGENT, what)

  it('are rejected, put aside and acked, all at once, and the next task completes', async () => {
    const before = (await stand.deadLetters()).length
    for (const [what, body] of Object.entries(rejected)) await stand.publish(body, { 'Nats-Msg-Id': what })

    const results = await Promise.all(
      Object.keys(rejected).map(async (what) => [what, await stand.resultOf(keyFor(what))] as const),
    )

    const told = results.map(([what, result]) => [what, result.state, result.state === 'rejected' && result.failure.code])
    expect(told).toEqual(Object.keys(rejected).map((what) => [what, 'rejected', 'bad_message']))
    for (const [what, result] of results) if ('failure' in result) expect(result.failure.message.length, what).toBeLessThan(400)
    await stand.untilNoMail()
    const letters = (await stand.deadLetters()).slice(before)
    expect(letters.map(({ key, code }) => [key, code]).sort()).toEqual(
      Object.keys(rejected)
        .map((what) => [keyFor(what), 'bad_message'])
        .sort(),
    )
    expect(await stand.nextTask('four')).toBe('completed: 4 characters')
  })

  for (const [what, [body, output]] of Object.entries(accepted)) {
    it(`that mean no harm are taken: ${what}`, async () => {
      await stand.publish(body, { 'Nats-Msg-Id': what })

      expect(await stand.resultOf(keyFor(what))).toMatchObject({ state: 'completed', output })
    })
  }

  it('in the trace headers begin a new trace', async () => {
    const wrong = [
      '00-00000000000000000000000000000000-00f067aa0ba902b7-01',
      '00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01',
      'ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
      'x'.repeat(10_000),
      '\u0007',
    ]
    for (const [n, traceparent] of wrong.entries()) {
      const headers = { 'Nats-Msg-Id': `trace-${n}`, traceparent, tracestate: 'y'.repeat(10_000), baggage: '\u0001=\u0002' }
      await stand.publish('four', headers)
    }

    const traces = new Set<string>()
    for (const n of wrong.keys()) {
      const result = await stand.resultOf(`trace-${n}`)
      expect(result).toMatchObject({ state: 'completed', trace: expect.stringMatching(/^(?!4bf92f|0{32})[0-9a-f]{32}$/) })
      traces.add(result.trace)
    }
    expect(traces.size).toBe(wrong.length)
  })

  it('in headers as large as the server takes are put aside, and no slot is lost to them', async () => {
    const huge = 'z'.repeat(HEADER_BYTES_MAX - 200)
    const headers = ['Kaos-Cause', 'Kaos-Id', 'Kaos-Key', 'Nats-Msg-Id', 'Kaos-V', 'traceparent', 'tracestate']

    for (const header of headers) for (const body of ['four', '{']) await stand.publish(body, { [header]: huge })

    await stand.untilNoMail()
    expect(await stand.nextTask('four')).toBe('completed: 4 characters')
  })
})

it('a request of the ask door that makes no sense is answered with what is wrong', async () => {
  const asking = serveAsk(stand.bus, [AGENT], silentLog())
  const ask = async (body: string | Uint8Array) => {
    const reply = await stand.bus.connection.request(`kaos.${NAMESPACE}.ask.${AGENT}`, body, { timeout: 15_000 })
    return reply.headers?.get('Nats-Service-Error-Code') || reply.string()
  }

  const answers = await Promise.all([
    ask('{"input":'),
    ask(Uint8Array.from([0xff, 0xfe])),
    ask('{"input":"x","limits":{"steps":-1}}'),
    ask('four'),
  ])

  expect(answers).toEqual(['bad_message', 'bad_message', 'bad_message', '4 characters'])
  asking.unsubscribe()
})
