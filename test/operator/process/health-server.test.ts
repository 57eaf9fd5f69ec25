import { expect, it, onTestFinished } from 'vitest'
import { type OperatorHealth, type Pages, serveOperatorHealth } from '../../../operator/process/health-server.ts'

const healthy: OperatorHealth = { isAlive: () => true, notReady: () => undefined, metricsText: () => 'a 1\n' }

async function serve(health: Partial<OperatorHealth> = {}, pages?: Pages) {
  const server = await serveOperatorHealth({ host: '127.0.0.1', port: 0 }, { ...healthy, ...health }, pages)
  onTestFinished(() => server.stop())
  return async (path: string, init?: RequestInit) => {
    const answer = await fetch(`${server.url}${path}`, init)
    return { status: answer.status, text: await answer.text(), type: answer.headers.get('content-type') }
  }
}

it('answers the kubelet and Prometheus', async () => {
  const ask = await serve()

  expect(await ask('/livez')).toMatchObject({ status: 200, text: 'ok\n' })
  expect(await ask('/readyz?verbose')).toMatchObject({ status: 200, text: 'ok\n' })
  expect(await ask('/metrics')).toEqual({ status: 200, text: 'a 1\n', type: 'text/plain; version=0.0.4; charset=utf-8' })
})

it('says why it is not ready, and that it has to be started anew', async () => {
  const ask = await serve({ isAlive: () => false, notReady: () => 'not read yet: agents' })

  expect(await ask('/livez')).toMatchObject({ status: 500 })
  expect(await ask('/readyz')).toMatchObject({ status: 503, text: 'not read yet: agents\n' })
})

it('serves nothing else', async () => {
  const ask = await serve()

  expect(await ask('/')).toMatchObject({ status: 404 })
  expect(await ask('/metrics', { method: 'POST', body: 'x' })).toMatchObject({ status: 405 })
  expect(await ask('/metrics', { method: 'HEAD' })).toMatchObject({ status: 200, text: '' })
})

it.each([
  ['health', [200, 200, 404]],
  ['metrics', [404, 404, 200]],
] as const)('serves at an address for %s nothing that another address is for', async (pages, statuses) => {
  const ask = await serve({}, pages)

  const answers = await Promise.all(['/livez', '/readyz', '/metrics'].map((path) => ask(path)))

  expect(answers.map(({ status }) => status)).toEqual(statuses)
})

it('names the address that is taken', async () => {
  const taken = await serveOperatorHealth({ host: '127.0.0.1', port: 0 }, healthy)
  onTestFinished(() => taken.stop())
  const port = Number(new URL(taken.url).port)

  await expect(serveOperatorHealth({ host: '127.0.0.1', port }, healthy)).rejects.toMatchObject({
    code: 'port_taken',
    message: expect.stringContaining(`127.0.0.1:${port}`),
  })
})
