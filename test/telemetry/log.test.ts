/** Every log here lives in a process of its own: what it writes is read from its stderr, what it exports from the wire. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { grpcStatus, type OtlpReceiver, type ReceivedLog, startOtlpReceiver } from '../support/otlp-receiver.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const SPAN = 'b7ad6b7169203331'
const SECRET = 'hunter2-hunter2'

let backend: OtlpReceiver
beforeEach(async () => {
  backend = await startOtlpReceiver()
})
afterEach(() => backend.close())

/** Runs code with `createLog` and, in a process that hosts the agent "writer", `log`; gives what came out of stderr. */
async function run(code: string, env: NodeJS.ProcessEnv = {}, options = '{}'): Promise<string> {
  const program = `
    import { createLog, tapLogs } from './telemetry/log.ts'
    import { startTelemetry } from './telemetry/start.ts'
    const log = await createLog(${options})
    const services = [{ name: 'writer', namespace: 'tests', kind: 'agent' }, { name: 'search', namespace: 'tests', kind: 'tool-server' }]
    const telemetry = await startTelemetry({ processName: 'kaos', services, env: process.env, log })
    ${code}
    await telemetry.stop(3_000)`
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', program], {
    cwd: ROOT,
    env: { PATH: process.env.PATH, NO_COLOR: '1', ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const [stderr, [exitCode]] = await Promise.all([text(child.stderr), once(child, 'exit')])
  expect({ exitCode, stderr: exitCode === 0 ? '' : stderr }).toEqual({ exitCode: 0, stderr: '' })
  return stderr
}

const exporting = () => ({ OTEL_EXPORTER_OTLP_ENDPOINT: backend.url })
const ALL_LEVELS = "for (const level of ['trace', 'debug', 'info', 'warn', 'error']) log[level]({ marked: true }, 'at ' + level)"

function linesOf(stderr: string): { readonly [field: string]: unknown }[] {
  return stderr
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
}

const marked = (): ReceivedLog[] => backend.logs().filter(({ attributes }) => attributes.marked)

describe('the log', () => {
  const levels = {
    TRACE: ['trace', 'debug', 'info', 'warn', 'error'],
    DEBUG: ['debug', 'info', 'warn', 'error'],
    INFO: ['info', 'warn', 'error'],
    WARNING: ['warn', 'error'],
    ERROR: ['error'],
  }
  for (const [level, wanted] of Object.entries(levels)) {
    it(`at level ${level} writes the same lines to stderr and to the backend`, async () => {
      const stderr = await run(ALL_LEVELS, { ...exporting(), LOG_LEVEL: level, AGENT_LOG_LEVEL: 'ERROR' })

      const written = linesOf(stderr).filter((line) => line.marked)
      expect(written.map((line) => line.level)).toEqual(wanted)
      expect(marked().map(({ body }) => body)).toEqual(written.map((line) => line.msg))
      expect(marked().map(({ timeNs }) => timeNs)).toEqual(
        written.map((line) => BigInt(Date.parse(String(line.time))) * 1_000_000n),
      )
    })
  }

  it('takes its level from AGENT_LOG_LEVEL where LOG_LEVEL is not set, and INFO for a word that is none', async () => {
    const agent = await run(ALL_LEVELS, { AGENT_LOG_LEVEL: 'warning' })
    const unknown = await run(ALL_LEVELS, { LOG_LEVEL: 'LOUD' })

    expect(linesOf(agent).map((line) => line.level)).toEqual(['warn', 'error'])
    expect(linesOf(unknown).map((line) => line.msg)).toEqual(['unknown log level, using INFO', 'at info', 'at warn', 'at error'])
  })

  it('gives severities as OpenTelemetry numbers them', async () => {
    await run(ALL_LEVELS, { ...exporting(), LOG_LEVEL: 'TRACE' })

    expect(marked().map(({ severity, severityText }) => [severity, severityText])).toEqual([
      [1, 'TRACE'],
      [5, 'DEBUG'],
      [9, 'INFO'],
      [13, 'WARN'],
      [17, 'ERROR'],
    ])
  })

  it('says of which agent or tool server, of which span and with which fields', async () => {
    await run(
      `const child = log.child({ agent: 'writer', marked: true })
       child.info({ task: 'writer_t1', trace_id: '${TRACE}', span_id: '${SPAN}', usage: { inputTokens: 3 }, tools: ['a', 'b'], none: null }, 'a task ended')
       log.info({ server: 'search', marked: true, trace_id: '${TRACE}' }, 'of a tool server')
       log.info({ agent: 'stranger', marked: true }, 'of the process')`,
      exporting(),
    )

    const [ofAgent, ofServer, ofProcess] = marked()
    expect(ofAgent).toMatchObject({
      service: 'writer',
      resource: { 'service.namespace': 'tests' },
      body: 'a task ended',
      traceId: TRACE,
      spanId: SPAN,
      attributes: { task: 'writer_t1', usage: { inputTokens: 3 }, tools: ['a', 'b'] },
    })
    expect(ofServer).toMatchObject({ service: 'search', traceId: TRACE })
    expect(ofServer).not.toHaveProperty('spanId')
    expect(ofProcess).toMatchObject({ service: 'kaos', attributes: { agent: 'stranger' } })
    expect(ofProcess).not.toHaveProperty('traceId')
  })

  it('gives an error its type, message and stack, with the span it belongs to', async () => {
    const stderr = await run(
      `log.error({ marked: true, agent: 'writer', trace_id: '${TRACE}', span_id: '${SPAN}', err: new TypeError('it broke') }, 'a turn failed')`,
      exporting(),
    )

    expect(linesOf(stderr)).toMatchObject([{ level: 'error', trace_id: TRACE, err: { type: 'TypeError', message: 'it broke' } }])
    expect(marked()).toMatchObject([{ severity: 17, traceId: TRACE, spanId: SPAN, service: 'writer' }])
    expect(marked()[0]!.attributes).toMatchObject({ 'exception.type': 'TypeError', 'exception.message': 'it broke' })
    expect(marked()[0]!.attributes['exception.stacktrace']).toContain('TypeError: it broke')
  })

  it('is readable on a terminal while the backend gets the fields', async () => {
    const stderr = await run("log.info({ marked: true, agent: 'writer' }, 'hello')", exporting(), '{ terminal: true }')

    expect(stderr).toMatch(/INFO: hello\n {4}marked: true\n {4}agent: "writer"/)
    expect(marked()).toMatchObject([{ service: 'writer', body: 'hello', attributes: { marked: true } }])
  })

  it('carries trace and span on stderr also when nothing is exported', async () => {
    const stderr = await run(`log.info({ trace_id: '${TRACE}', span_id: '${SPAN}' }, 'a task ended')`)

    expect(linesOf(stderr)).toMatchObject([{ trace_id: TRACE, span_id: SPAN, msg: 'a task ended' }])
    expect(backend.requests.logs).toEqual([])
  })

  it('shows no secret, neither on stderr nor on the wire', async () => {
    const stderr = await run(
      `const cause = new Error('PUT nats://anna:${SECRET}@host: refused')
       log.error({ marked: true, err: new Error('status 401: {"api_key":"${SECRET}"}', { cause }), headers: { authorization: 'ApiKey ${SECRET}' } }, 'with OTEL_EXPORTER_OTLP_HEADERS=x-team=${SECRET}')
       log.info({ marked: true, password: '${SECRET}', text: JSON.stringify({ token: '${SECRET}' }) }, 'Bearer ${SECRET}')`,
      { ...exporting(), OTEL_EXPORTER_OTLP_HEADERS: `x-team=${SECRET}` },
    )

    expect(marked()).toHaveLength(2)
    expect(backend.requests.logs[0]!.headers['x-team']).toBe(SECRET)
    expect(stderr).not.toContain(SECRET)
    expect(backend.rawText()).not.toContain(SECRET)
  })

  it('does not feed on itself while the backend refuses logs', async () => {
    backend.refuse('logs', grpcStatus.PERMISSION_DENIED)

    const stderr = await run("log.info('hello'); for (let i = 0; i < 5; i++) await telemetry.flush(3_000)", exporting())

    expect(linesOf(stderr).filter(({ msg }) => msg === 'telemetry was dropped').length).toBeLessThanOrEqual(2)
    expect(backend.requests.logs.length).toBeLessThanOrEqual(3)
  })

  it('does not hand on what the taker of its lines logs itself', async () => {
    const stderr = await run(`
      const taken = []
      tapLogs((line) => { taken.push(line.msg); log.warn('from inside') })
      log.info('first')
      tapLogs(undefined)
      log.info({ taken }, 'second')`)

    expect(linesOf(stderr).map((line) => line.msg)).toEqual(['first', 'from inside', 'second'])
    expect(linesOf(stderr).at(-1)).toMatchObject({ taken: ['first'] })
  })
})
