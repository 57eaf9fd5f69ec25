import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { forecast } from '../../docs/examples/tools/weather.ts'
import { silentLog } from '../../telemetry/log.ts'
import { openSession } from '../../tools/session.ts'
import { callTool } from '../support/mcp-calls.ts'

const file = fileURLToPath(new URL('../../docs/examples/tools/weather.ts', import.meta.url))

it('the example of a tool can be tested as a function', () => {
  const context = { idempotencyKey: 'test', signal: new AbortController().signal, traceparent: '' }

  const { days } = forecast.run({ city: 'Bern', days: 3 }, context)

  expect(days).toHaveLength(3)
  expect(forecast.run({ city: 'bern', days: 3 }, context).days).toEqual(days)
})

it('the example of a tool is served as its manifest says', async () => {
  const session = openSession({ runtime: 'typescript', file }, { log: silentLog() })

  const tools = await session.list()
  const { value } = await callTool(session, 'forecast', { city: 'Bern' })
  const mistake = await callTool(session, 'forecast', { city: 'Bern', days: 'two' })
  const warning = await callTool(session, 'warn', { city: 'Bern', words: 'Hail!' }, { idempotencyKey: 'task_1-0' })

  expect(tools.map(({ name, readOnlyHint, idempotentHint }) => ({ name, readOnlyHint, idempotentHint }))).toEqual([
    { name: 'forecast', readOnlyHint: true, idempotentHint: false },
    { name: 'warn', readOnlyHint: false, idempotentHint: true },
  ])
  expect(value).toEqual({ city: 'Bern', days: [{ sky: expect.any(String), highCelsius: expect.any(Number) }] })
  expect(mistake.value).toContain('days: Invalid input: expected number, received string, given "two"')
  expect(warning.value).toBe('warning task_1-0 for Bern: Hail!')
  await session.close()
})
