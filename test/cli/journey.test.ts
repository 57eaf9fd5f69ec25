/** What a new user does, in order, with the sample team and the offline model. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Folder, SAMPLE, type Started } from '../support/cli.ts'

const TASK = 'Compare NATS and Kafka as the bus of a fleet of agents'

describe('kaos up and its clients', () => {
  let folder: Folder
  let up: Started
  beforeAll(async () => {
    folder = await Folder.create()
    up = await folder.start(['up', '-f', SAMPLE], 'Ctrl-C ends it')
  })
  afterAll(() => folder.remove())

  it('says which model answers and where NATS listens', () => {
    expect(up.output).toContain('the offline model')
    expect(up.output).toMatch(/export NATS_URL=nats:\/\/127\.0\.0\.1:\d+/)
  })

  it('answers a task and shows who calls whom meanwhile', async () => {
    const { code, stdout, stderr } = await folder.kaos(['task', 'send', 'coordinator', TASK, '--wait', '--id', 'order-17'])

    expect(code).toBe(0)
    expect(stdout).toContain('420 USD per month')
    expect(stderr).toMatch(/coordinator +▶ asks researcher/)
    expect(stderr).toMatch(/analyst +▶ calls tool calculate/)
  })

  it('gives a known id its first result, and JSON on demand', async () => {
    const { code, stdout } = await folder.kaos(['task', 'send', 'coordinator', TASK, '--wait', '--id', 'order-17', '--json'])

    const result = JSON.parse(stdout)
    expect(code).toBe(0)
    expect(result).toMatchObject({ state: 'completed', task: 'coordinator_order-17', agent: 'coordinator' })
    expect(result.usage.modelCalls).toBe(2 + 2 + 3)
    expect(result.trace).toMatch(/^[0-9a-f]{32}$/)
  })

  it('lists, gets and watches tasks', async () => {
    const [list, get, watch] = await Promise.all([
      folder.kaos(['task', 'list', '--json']),
      folder.kaos(['task', 'get', 'coordinator_order-17']),
      folder.kaos(['task', 'watch', 'last', '--json']),
    ])

    expect(JSON.parse(list.stdout)[0]).toMatchObject({ task: 'coordinator_order-17', state: 'completed', title: TASK })
    expect(get).toMatchObject({ code: 0, stdout: expect.stringContaining('420 USD') })
    expect(JSON.parse(watch.stdout)).toMatchObject({ state: 'completed' })
  })

  it('draws the trace and replays it identically', async () => {
    const [list, show, tree, replay] = await Promise.all([
      folder.kaos(['trace', 'list', '--json']),
      folder.kaos(['trace', 'show', 'last']),
      folder.kaos(['trace', 'show', 'coordinator_order-17', '--json']),
      folder.kaos(['replay', 'last']),
    ])

    expect(JSON.parse(list.stdout)[0]).toMatchObject({ actors: 3 })
    for (const name of ['coordinator', 'researcher', 'analyst', 'calculate', 'echo']) expect(show.stdout).toContain(name)
    expect(JSON.parse(tree.stdout)).toMatchObject({ traceId: JSON.parse(list.stdout)[0].trace })
    expect(replay.stdout).toMatch(/^identical: \d+ entries, 0 calls/)
    expect(replay.code).toBe(0)
  })

  it('names the first entry that a changed prompt changes', async () => {
    const changed = join(folder.path, 'changed.yaml')
    const text = await readFile(SAMPLE, 'utf8')
    await writeFile(changed, text.replace('Say so when a specialist failed', 'Never say that a specialist failed'))

    const { code, stdout } = await folder.kaos(['replay', 'last', '-f', changed])
    const { stdout: json } = await folder.kaos(['replay', 'last', '-f', changed, '--json'])

    expect(code).toBe(1)
    expect(stdout).toContain('diverged')
    expect(stdout).toContain('Never say that')
    expect(JSON.parse(json)).toMatchObject({ verdict: 'diverged', cause: 'prompt', agent: 'coordinator', n: 0 })
  })

  it('names the agent that was meant', async () => {
    const { code, stderr } = await folder.kaos(['task', 'send', 'coordinater', 'x'])
    const { stdout } = await folder.kaos(['task', 'send', 'coordinater', 'x', '--json'])

    expect(code).toBe(5)
    expect(stderr).toContain('did you mean "coordinator"?')
    expect(JSON.parse(stdout).error).toMatchObject({ code: 'unknown_agent' })
  })

  it('knows what it does not know', async () => {
    const [task, trace, id, replay] = await Promise.all([
      folder.kaos(['task', 'get', 'coordinator_nothing']),
      folder.kaos(['trace', 'show', '0123456789abcdef0123456789abcdef']),
      folder.kaos(['trace', 'show', 'What?']),
      folder.kaos(['replay', 'coordinator_nothing']),
    ])

    expect([task.code, trace.code, id.code, replay.code]).toEqual([5, 5, 2, 5])
    expect(id.stderr).toContain('"What?"')
  })

  it('takes a task of a megabyte from stdin', async () => {
    const { code, stdout } = await folder.kaos(['task', 'send', 'researcher', '-', '--wait', '--quiet', '--json'], {
      input: 'word '.repeat(200_000),
    })

    expect(code).toBe(0)
    expect(JSON.parse(stdout).state).toBe('completed')
    expect((await folder.kaos(['replay', 'last'])).stdout).toContain('identical')
  })

  it('runs once per folder', async () => {
    const { code, stderr } = await folder.kaos(['up', '-f', SAMPLE])

    expect(code).toBe(2)
    expect(stderr).toContain(`pid ${up.pid}`)
  })

  it('ends on Ctrl-C, and goes on with the same record', async () => {
    expect(await up.end()).toBe(0)
    expect((await folder.kaos(['task', 'list'])).code).toBe(3)

    up = await folder.start(['up', '-f', SAMPLE], 'Ctrl-C ends it')
    const { stdout } = await folder.kaos(['replay', 'coordinator_order-17'])
    expect(stdout).toContain('identical')
  })
})

describe('mistakes', () => {
  let folder: Folder
  beforeAll(async () => {
    folder = await Folder.create()
  })
  afterAll(() => folder.remove())

  it('reports every mistake of a manifest at once, with file and line', async () => {
    await writeFile(
      join(folder.path, 'broken.yaml'),
      'apiVersion: kaos.tools/v1alpha1\nkind: Agent\nmetadata: { name: a }\nspec:\n  modelAPI: nowhere\n  model: m\n  mcpServer: [x]\n  config: { reasoningLoopMaxSteps: 50 }\n',
    )

    const { code, stderr } = await folder.kaos(['up', '-f', 'broken.yaml'])

    expect(code).toBe(2)
    expect(stderr).toContain('broken.yaml:7')
    expect(stderr).toContain('mcpServers')
    expect(stderr).toContain('broken.yaml:8')
  })

  it('ends with 3 when no broker is there', async () => {
    const [none, silent] = await Promise.all([
      folder.kaos(['task', 'list']),
      folder.kaos(['task', 'list', '--json'], { env: { NATS_URL: 'nats://127.0.0.1:1' } }),
    ])

    expect([none.code, silent.code]).toEqual([3, 3])
    expect(none.stderr).toContain('kaos up')
    expect(JSON.parse(silent.stdout).error.code).toBe('broker_unreachable')
  })

  it('ends with 2 on a command line that cannot be understood, and suggests', async () => {
    const [verb, option, empty] = await Promise.all([
      folder.kaos(['tsak']),
      folder.kaos(['task', 'list', '--limt', '3']),
      folder.kaos(['task', 'send', 'a', ' ']),
    ])

    expect([verb.code, option.code, empty.code]).toEqual([2, 2, 2])
    expect(verb.stderr).toContain('task')
    expect(option.stderr).toContain('--limit')
  })
})
