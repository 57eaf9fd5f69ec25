import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { claimFolder, readRunFile } from '../../../bus/server/run-file.ts'
import { runScript, type Script } from './processes.ts'

const RUN = { url: 'nats://127.0.0.1:4222', namespace: 'default', manifests: ['team.yaml'] }

let folder: string
let scripts: Script[]

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kaos-test-run-'))
  scripts = []
})

afterEach(async () => {
  for (const { child } of scripts) child.kill('SIGKILL')
  await Promise.all(scripts.map(({ exited }) => exited))
  await rm(folder, { recursive: true, force: true })
})

function runClaimer(...args: string[]): Script {
  const script = runScript('claimer.ts', [folder, ...args])
  scripts.push(script)
  return script
}

async function writeRunFile(content: string): Promise<void> {
  await mkdir(join(folder, '.kaos'), { recursive: true })
  await writeFile(join(folder, '.kaos', 'run.json'), content)
}

test('publishes a run and takes it back', async () => {
  const claim = await claimFolder(folder)
  const whileStarting = readRunFile(folder)

  const run = claim.publish({ ...RUN, storeDir: '/a/store' })
  const whileRunning = readRunFile(folder)
  claim.release()

  expect(whileStarting).toBeUndefined()
  expect(run).toEqual({ pid: process.pid, startedAt: expect.any(String), ...RUN, storeDir: '/a/store' })
  expect(whileRunning).toEqual(run)
  expect(readRunFile(folder)).toBeUndefined()
  expect(readRunFile(join(folder, 'absent'))).toBeUndefined()
})

test('lets the next one in after a release', async () => {
  const first = await claimFolder(folder)
  first.release()

  const second = await claimFolder(folder)
  first.release() // again: must not take the lock from the second one

  await expect(claimFolder(folder)).rejects.toMatchObject({ code: 'already_running' })
  second.release()
})

test('names pid and URL of the one that runs', async () => {
  const other = runClaimer('default')
  expect(await other.nextLine()).toBe('claimed')

  const error = await claimFolder(folder).catch((reason: unknown) => reason)

  const { pid } = other.child
  expect(error).toMatchObject({
    code: 'already_running',
    message: `could not start in "${folder}": "kaos up" with pid ${pid} runs there, its NATS server is "nats://127.0.0.1:4222"`,
    details: { pid, url: 'nats://127.0.0.1:4222' },
  })
  expect(readRunFile(folder)).toMatchObject({ pid, ...RUN })
})

test('names the pid of one that is still starting', async () => {
  const other = runClaimer()
  expect(await other.nextLine()).toBe('claimed')

  await expect(claimFolder(folder)).rejects.toThrow(`with pid ${other.child.pid} runs there, it is still starting`)
  expect(readRunFile(folder)).toBeUndefined()
})

test('is free again after kill -9 of its holder', async () => {
  const other = runClaimer('default')
  await other.nextLine()

  other.child.kill('SIGKILL')
  await other.exited

  expect(readRunFile(folder)).toBeUndefined()
  const claim = await claimFolder(folder)
  expect(JSON.parse(await readFile(join(folder, '.kaos', 'run.json'), 'utf8'))).toMatchObject({ pid: process.pid })
  claim.release()
})

test.each([
  ['the pid of another program', JSON.stringify({ pid: process.ppid, startedAt: 'then', ...RUN })],
  ['no JSON', '{"pid": 12'],
  ['fields that are missing', '{}'],
])('is not stopped by a run file with %s', async (_what, content) => {
  await writeRunFile(content)

  const claim = await claimFolder(folder)

  claim.release()
})

test('is not stopped by a lock file that is none', async () => {
  await writeRunFile('{}')
  await writeFile(join(folder, '.kaos', 'lock'), 'not a database, and longer than its header would be '.repeat(100))

  const claim = await claimFolder(folder)

  await expect(claimFolder(folder)).rejects.toMatchObject({ code: 'already_running' })
  claim.release()
})

test('lets exactly one in when several start at once', async () => {
  const claimers = Array.from({ length: 5 }, () => runClaimer('default'))

  const lines = await Promise.all(claimers.map((claimer) => claimer.nextLine()))

  expect(lines.filter((line) => line === 'claimed')).toHaveLength(1)
  const winner = claimers[lines.indexOf('claimed')]?.child.pid
  for (const line of lines) {
    if (line !== 'claimed') expect(line).toContain(`already_running could not start in "${folder}": "kaos up" with pid ${winner}`)
  }
})

test('says that it may not write here', async () => {
  await writeFile(join(folder, '.kaos'), 'a file in place of the folder')

  await expect(claimFolder(folder)).rejects.toMatchObject({
    code: 'folder_unusable',
    message: expect.stringContaining(`"${folder}"`),
  })
})
