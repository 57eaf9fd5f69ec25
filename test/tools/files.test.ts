import { execFileSync } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readdir, readFile, readlink, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type JsonObject, sha256 } from '../../bus/wire/json.ts'
import { silentLog } from '../../telemetry/log.ts'
import { listFolder, readText, writeText } from '../../tools/runtimes/files/entries.ts'
import { Root } from '../../tools/runtimes/files/root.ts'
import { openSession, type ToolSession } from '../../tools/session.ts'
import { callTool } from '../support/mcp-calls.ts'

const MiB = 1_024 * 1_024
let top: string
let root: string
/** Beside the root: what nobody may read or change. */
let secret: string

beforeEach(async () => {
  top = await mkdtemp(join(tmpdir(), 'kaos-files-'))
  root = join(top, 'root')
  secret = join(top, 'secret')
  await mkdir(join(root, 'notes', 'deep'), { recursive: true })
  await mkdir(secret)
  await writeFile(join(root, 'a.txt'), 'grüezi\n')
  await writeFile(join(root, 'notes', 'b.md'), '# b')
  await writeFile(join(secret, 'key'), 'the secret')
})
const sessions: ToolSession[] = []
afterEach(async () => {
  await Promise.all(sessions.splice(0).map((session) => session.close()))
  await rm(top, { recursive: true, force: true })
})

function open(writable = true): ToolSession {
  const session = openSession({ runtime: 'files', root, writable }, { log: silentLog() })
  sessions.push(session)
  return session
}
async function refusal(session: ToolSession, tool: string, args: JsonObject): Promise<unknown> {
  const { isError, value } = await callTool(session, tool, args)
  return isError ? value : 'it was not refused'
}

describe('the tools', () => {
  it('are three with writing and two without, and say what a crash may repeat', async () => {
    expect((await open(false).list()).map(({ name }) => name)).toEqual(['list_files', 'read_file'])
    expect(await open().list()).toMatchObject([
      { name: 'list_files', readOnlyHint: true },
      { name: 'read_file', readOnlyHint: true },
      { name: 'write_file', readOnlyHint: false, idempotentHint: true, destructiveHint: true },
    ])
  })

  it('list a folder', async () => {
    const session = open()

    expect((await callTool(session, 'list_files')).value).toEqual({
      entries: [
        { name: 'a.txt', kind: 'file', bytes: 8 },
        { name: 'notes', kind: 'folder' },
      ],
      isCut: false,
    })
    expect((await callTool(session, 'list_files', { path: './notes/' })).value).toMatchObject({
      entries: [{ name: 'b.md' }, { name: 'deep' }],
    })
  })

  it('read text as it is', async () => {
    await writeFile(join(root, 'bom.txt'), '\ufeffx\r\n')
    const session = open()

    expect((await callTool(session, 'read_file', { path: 'a.txt' })).value).toBe('grüezi\n')
    expect((await callTool(session, 'read_file', { path: 'bom.txt' })).value).toBe('\ufeffx\r\n')
    expect((await callTool(session, 'read_file', { path: 'notes//./b.md' })).value).toBe('# b')
  })

  it('write a new file with its folders, and over an old one whose mode stays', async () => {
    const session = open()
    await chmod(join(root, 'a.txt'), 0o600)

    expect((await callTool(session, 'write_file', { path: 'x/y/new.txt', content: 'ä' })).value).toEqual({ bytes: 2 })
    await callTool(session, 'write_file', { path: 'a.txt', content: 'after' })

    expect(await readFile(join(root, 'x', 'y', 'new.txt'), 'utf8')).toBe('ä')
    expect(await readFile(join(root, 'a.txt'), 'utf8')).toBe('after')
    expect((await stat(join(root, 'a.txt'))).mode & 0o777).toBe(0o600)
    expect((await readdir(root)).toSorted()).toEqual(['a.txt', 'notes', 'x'])
  })

  it('write the same again after a crash left half of it behind', async () => {
    const session = open()
    const write = () => callTool(session, 'write_file', { path: 'c.txt', content: 'whole' }, { idempotencyKey: 'task_0-0' })
    await writeFile(join(root, `.kaos-write-${sha256('task_0-0').slice(0, 16)}`), 'a longer text of before')

    await write()

    expect(await readFile(join(root, 'c.txt'), 'utf8')).toBe('whole')
    expect((await readdir(root)).toSorted()).toEqual(['a.txt', 'c.txt', 'notes'])
  })

  it('have bounds: 1 MiB of a file, 1,000 entries of a folder', async () => {
    const session = open()
    await writeFile(join(root, 'full'), 'x'.repeat(MiB))
    await writeFile(join(root, 'over'), 'x'.repeat(MiB + 1))
    await mkdir(join(root, 'many'))
    await Promise.all(Array.from({ length: 1_001 }, (_, n) => writeFile(join(root, 'many', `f${n}`), '')))

    expect((await callTool(session, 'read_file', { path: 'full' })).value).toHaveLength(MiB)
    expect(await refusal(session, 'read_file', { path: 'over' })).toBe('"over" has 1048577 bytes; at most 1048576 are allowed')
    expect(await refusal(session, 'write_file', { path: 'w', content: 'x'.repeat(MiB + 1) })).toContain(
      'at most 1048576 are allowed',
    )
    const { entries, isCut } = (await callTool(session, 'list_files', { path: 'many' })).value as {
      entries: unknown[]
      isCut: boolean
    }
    expect([entries.length, isCut]).toEqual([1_000, true])
  })

  it.each<[string, string, JsonObject, string]>([
    ['what is not there', 'read_file', { path: 'nothing.txt' }, 'there is no "nothing.txt"'],
    ['a folder of what is not there', 'list_files', { path: 'no/where' }, 'there is no "no"'],
    ['a folder as a file', 'read_file', { path: 'notes' }, '"notes" is not a file'],
    ['a file as a folder', 'list_files', { path: 'a.txt' }, '"a.txt" is a link or a file, not a folder'],
    ['below a file', 'write_file', { path: 'a.txt/b', content: '' }, '"a.txt" is a link or a file, not a folder'],
    ['the root as a file', 'read_file', { path: '' }, 'path "" is the root folder, not a file'],
    ['a name that is too long', 'read_file', { path: 'x'.repeat(300) }, 'is too long'],
    ['a path that is too long', 'read_file', { path: 'x/'.repeat(600) }, 'path: Too big'],
    ['a path that is too deep', 'read_file', { path: 'x/'.repeat(33) }, 'nested deeper than 32 folders'],
    [
      'a folder over which to write',
      'write_file',
      { path: 'notes', content: '' },
      '"notes" is a link, a folder or a device, not a file',
    ],
  ])('refuse %s', async (_title, tool, args, message) => {
    expect(await refusal(open(), tool, args)).toContain(message)
  })

  it('refuse what is no UTF-8, and pipes without waiting for them', async () => {
    await writeFile(join(root, 'latin'), Buffer.from('gr\xfcezi', 'latin1'))
    execFileSync('mkfifo', [join(root, 'pipe')])
    const session = open()

    expect(await refusal(session, 'read_file', { path: 'latin' })).toBe('"latin" is not text in UTF-8')
    expect(await refusal(session, 'read_file', { path: 'pipe' })).toBe('"pipe" is not a file')
    expect(await refusal(session, 'write_file', { path: 'pipe', content: 'x' })).toContain('not a file')
    expect((await callTool(session, 'list_files')).value).toMatchObject({
      entries: [{ name: 'a.txt' }, { name: 'latin' }, { name: 'notes' }],
    })
  })

  it('have a root that may be reached by a link', async () => {
    await symlink(root, join(top, 'alias'))
    const session = openSession({ runtime: 'files', root: join(top, 'alias'), writable: false }, { log: silentLog() })
    sessions.push(session)

    expect((await callTool(session, 'read_file', { path: 'a.txt' })).value).toBe('grüezi\n')
  })

  it('say that the root is gone, and not where it was', async () => {
    const session = open()
    await session.list()
    await rm(root, { recursive: true })

    expect(await refusal(session, 'read_file', { path: 'a.txt' })).toBe('the root folder is not there any more')
  })
})

/** Both ways of walking: from open folder to open folder, and by paths that are compared with where they really lie. */
describe.each([
  { way: 'by descriptors', isByDescriptor: true },
  { way: 'by paths', isByDescriptor: false },
])('nobody leaves the root, walking $way', ({ isByDescriptor }) => {
  let files: Root
  beforeEach(async () => {
    files = await Root.open(root, isByDescriptor)
  })
  const attempts = (path: string) => [
    () => readText(files, path),
    () => listFolder(files, path),
    () => writeText(files, path, 'owned', 'k'),
    () => writeText(files, `${path}/key`, 'owned', 'k'),
  ]
  async function expectRefused(path: string, message: RegExp): Promise<void> {
    for (const attempt of attempts(path)) await expect(attempt()).rejects.toThrow(message)
    expect(await readFile(join(secret, 'key'), 'utf8')).toBe('the secret')
    expect(await readdir(secret)).toEqual(['key'])
  }

  it.each([
    ['..', /would leave the folder/],
    ['../secret/key', /would leave the folder/],
    ['notes/../../secret/key', /would leave the folder/],
    ['notes/..', /would leave the folder/],
    ['/etc/passwd', /is absolute/],
    ['//etc/passwd', /is absolute/],
    ['C:\\secret', /is absolute/],
    ['..\\secret', /has a character that paths here do not have/],
    ['notes\0/../../secret', /has a character that paths here do not have/],
  ])('by the path %j', async (path, message) => {
    await expectRefused(path, message)
  })

  it('reads and writes what is inside', async () => {
    await writeText(files, 'notes/deep/c.txt', 'c', 'k')

    expect(await readText(files, 'notes/deep/c.txt')).toBe('c')
    expect((await listFolder(files, 'notes')).entries.map(({ name }) => name)).toEqual(['b.md', 'deep'])
  })

  it.each([
    ['a link to a folder outside', 'out', () => secret],
    ['a link to a file outside', 'out', () => join(secret, 'key')],
    ['a link that climbs', 'notes/deep/out', () => '../../../secret'],
    ['a link to the root of the system', 'out', () => '/'],
    ['a link that leads nowhere yet', 'out', () => join(secret, 'new')],
    ['a link to itself', 'out', () => 'out'],
    ['a link to the folder of open files', 'out', () => '/proc/self/fd'],
  ])('by %s', async (_title, path, target) => {
    await symlink(target(), join(root, path))

    await expectRefused(path, /is a link|lies behind one|not a file/)
  })

  it('by a link in the middle, not even to what is inside', async () => {
    await symlink(secret, join(root, 'notes', 'middle'))
    await symlink('notes', join(root, 'inside'))

    await expectRefused('notes/middle/key', /"notes\/middle" is a link/)
    await expectRefused('inside/b.md', /"inside" is a link/)
  })
})

// Only where steps begin at open folders: paths can be proven only against what holds still.
it('nobody leaves the root by a link that takes the place of a folder again and again', async () => {
  const files = await Root.open(root, true)
  await mkdir(join(root, 'swap'))
  await writeFile(join(root, 'swap', 'key'), 'mine')
  const [swap, away] = [join(root, 'swap'), join(root, 'away')]
  let isOver = false
  const swapping = (async () => {
    // A write may make the folder anew while it is away.
    const clear = () => rm(swap, { recursive: true, force: true })
    for (let round = 0; !isOver; round++) {
      // Now and then it stays for as long as a reader needs.
      for (let wait = 0; wait < (round % 3) * 20; wait++) await stat(swap)
      await rename(swap, away)
      await symlink(secret, swap).catch(clear)
      for (let isBack = false; !isBack; ) {
        await clear()
        isBack = await rename(away, swap).then(
          () => true,
          () => false,
        )
      }
    }
  })()

  const outcomes = new Set<string>()
  for (let n = 0; n < 500; n++) {
    const read = readText(files, 'swap/key').catch((error: Error) => error.name)
    const write = writeText(files, 'swap/key', 'mine', `k${n}`).catch(() => {})
    outcomes.add(await read)
    await write
  }
  isOver = true
  await swapping

  expect(outcomes).not.toContain('the secret')
  expect([...outcomes]).toContain('mine')
  expect(await readFile(join(secret, 'key'), 'utf8')).toBe('the secret')
  expect(await readdir(secret)).toEqual(['key'])
})

it('keeps no file open', async () => {
  const files = await Root.open(root)
  const openFiles = async () =>
    (await Promise.all((await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')))).filter(
      (path) => path.startsWith(top),
    )
  await symlink(secret, join(root, 'out'))

  for (const path of ['a.txt', 'notes', 'out/key', 'none/x', '../x', 'notes/deep/new.txt']) {
    await Promise.allSettled([readText(files, path), listFolder(files, path), writeText(files, path, 'x', 'k')])
  }

  expect(await openFiles()).toEqual([])
})
