/** Models that answer with nonsense, too much, or for ever: a typed failure or a retry, bounded memory, and the next task completes. */
import type { ServerResponse } from 'node:http'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { HostProcess } from '../support/host-process.ts'
import { until } from '../support/memory-system.ts'
import { chunk, inMiB, MiB, memoryOf, type RawModel, STREAM, Stand, say } from './stand.ts'

/** More than one attempt's worth of anything that is buffered, less than what a misbehaving model sends. */
const GROWTH_MIB_MAX = 200
const MODEL_SECONDS = 2
const PAGE = `<!doctype html><html><title>Login</title><body>${'<p>Please sign in.</p>'.repeat(2_000)}</body></html>`

const sse = (response: ServerResponse, ...events: readonly string[]) => response.writeHead(200, STREAM).write(events.join(''))
const json = (response: ServerResponse, status: number, body: object) =>
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))

/** Writes `piece` as fast as it is read, `MiB` times `mebibytes` in all or until nobody reads any more. */
function pump(response: ServerResponse, piece: string, mebibytes = Number.POSITIVE_INFINITY): void {
  let left = mebibytes * MiB
  sending++
  response.once('close', () => sending--)
  const more = (): void => {
    while (left > 0 && !response.destroyed) {
      left -= piece.length
      if (!response.write(piece)) return void response.once('drain', more)
    }
    if (left <= 0) response.end()
  }
  more()
}

const X64K = 'x'.repeat(64 * 1024)
/** Connections over which a model still sends. */
let sending = 0

/** By the text of the task: how the model answers, and what becomes of the task. */
const cases: Readonly<Record<string, readonly [RawModel, string]>> = {
  'closes half-way, every time': [
    (_text, response) => void response.writeHead(200, STREAM).write(chunk({ content: 'half an' }), () => response.destroy()),
    'failed: model_bad_answer',
  ],
  'closes in the middle of an event': [
    (_text, response) => void response.writeHead(200, STREAM).write('data: {"choices":[{"delta":{"con', () => response.destroy()),
    'failed: model_bad_answer',
  ],
  'closes before it says anything': [(_text, response) => void response.destroy(), 'failed: model_failed'],
  'sends words without end': [
    (_text, response) => pump(response.writeHead(200, STREAM), chunk({ content: 'and on ' })),
    'failed: ',
  ],
  'sends empty events without end': [(_text, response) => pump(response.writeHead(200, STREAM), chunk({})), 'failed: '],
  'sends comments without end': [(_text, response) => pump(response.writeHead(200, STREAM), ': still here\n\n'), 'failed: '],
  'sends empty lines without end': [(_text, response) => pump(response.writeHead(200, STREAM), '\n'.repeat(4_096)), 'failed: '],
  'sends a line of 100 MB': [(_text, response) => pump(response.writeHead(200, STREAM), X64K, 100), 'failed: '],
  'sends an event of 100 MB': [
    (_text, response) => {
      sse(response, 'data: {"choices":[{"delta":{"content":"')
      pump(response, X64K, 100)
    },
    'failed: payload_too_large',
  ],
  'sends an error of 100 MB': [(_text, response) => pump(response.writeHead(400), X64K, 100), 'failed: model_failed'],
  'sends a document of 100 MB': [
    (_text, response) => {
      response.writeHead(200, { 'content-type': 'application/json' }).write('{"choices":[{"message":{"content":"')
      pump(response, X64K, 100)
    },
    'failed: payload_too_large',
  ],
  'sends arguments of a call without end': [
    (_text, response) => {
      sse(response, chunk({ tool_calls: [{ index: 0, id: 'a', function: { name: 'f', arguments: '{"a":"' } }] }))
      pump(response, chunk({ tool_calls: [{ index: 0, function: { arguments: 'x'.repeat(1_000) } }] }))
    },
    'failed: payload_too_large',
  ],
  'says the same for 7 MiB': [
    (_text, response) => {
      sse(response, chunk({ content: 'z'.repeat(7 * MiB) }, 'stop'))
      response.end('data: [DONE]\n\n')
    },
    'completed',
  ],
  'answers a page': [
    (_text, response) => void response.writeHead(200, { 'content-type': 'text/html' }).end(PAGE),
    'failed: model_bad_answer',
  ],
  'answers a page as an error': [
    (_text, response) => void response.writeHead(403, { 'content-type': 'text/html' }).end(PAGE),
    'failed: model_failed',
  ],
  'answers 200 with an error object': [
    (_text, response) => json(response, 200, { error: { message: 'context length exceeded', type: 'invalid_request_error' } }),
    'failed: model_failed',
  ],
  'answers 200 with an error in the stream': [
    (_text, response) =>
      void response.writeHead(200, STREAM).end(`${chunk({ content: 'wait' })}data: {"error":{"message":"boom"}}\n\n`),
    'failed: model_failed',
  ],
  'answers an empty list of choices': [(_text, response) => json(response, 200, { choices: [] }), 'failed: model_bad_answer'],
  'answers null': [(_text, response) => void response.writeHead(200).end('null'), 'failed: model_bad_answer'],
  'answers bytes that are no text': [
    (_text, response) => void response.writeHead(200, STREAM).end(Uint8Array.from([0xff, 0xfe, 0x00, 0x01, 0x0a, 0x0a])),
    'failed: model_bad_answer',
  ],
  'answers text that is not UTF-8': [
    (_text, response) => {
      sse(response, 'data: {"choices":[{"delta":{"content":"Gr')
      response.end(Buffer.concat([Buffer.from([0xfc]), Buffer.from('n"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')]))
    },
    'completed',
  ],
}

/** Half of these attempts fail in ways that may pass; the second or third answers. */
let broken = 0
const passing: RawModel = (text, response, request) => {
  if (++broken % 3 === 0) return say('at last')(text, response, request)
  return broken % 3 === 1 ? void response.destroy() : json(response, 503, { error: { message: 'overloaded' } })
}

let stand: Stand
let host: HostProcess
beforeAll(async () => {
  stand = await Stand.start({
    model: (text, response, request) =>
      (cases[text]?.[0] ?? (text === 'passes' ? passing : say('fine')))(text, response, request),
    config: { modelSettings: { timeoutSeconds: MODEL_SECONDS } },
  })
  host = await stand.startHost()
})
afterAll(() => stand[Symbol.asyncDispose]())

describe('a model that', () => {
  for (const [what, [, expected]] of Object.entries(cases)) {
    it(what, async () => {
      const before = memoryOf(host).now

      const became = await stand.nextTask(what)

      expect(became).toMatch(new RegExp(`^${expected}`))
      if (expected === 'failed: ') expect(became).toMatch(/: (payload_too_large|model_timeout|model_bad_answer)$/)
      expect(await stand.nextTask()).toBe('completed: fine')
      expect(inMiB(memoryOf(host).peak - before)).toBeLessThan(GROWTH_MIB_MAX)
    })
  }

  it('fails twice in a way that may pass is asked again, and answers', async () => {
    expect(await stand.nextTask('passes')).toBe('completed: at last')
  })

  it('streams for ever to six tasks at once fails them all, and memory stays bounded', async () => {
    const before = memoryOf(host).now
    const what = ['sends words without end', 'sends empty lines without end', 'sends an event of 100 MB']

    const became = await Promise.all(Array.from({ length: 6 }, (_, n) => stand.nextTask(what[n % 3]!)))

    expect(became.filter((text) => !/^failed: (payload_too_large|model_timeout|model_bad_answer)$/.test(text))).toEqual([])
    expect(await stand.nextTask()).toBe('completed: fine')
    await until(() => sending === 0 || undefined, 'the host to leave the models that it has given up')
    const grown = inMiB(memoryOf(host).peak - before)
    console.log(`six endless models at once: the host grew by at most ${grown} MiB`)
    expect(grown).toBeLessThan(GROWTH_MIB_MAX)
  })
})
