/**
 * A reader who does what a page says: all its `sh` blocks in order, in one shell and a new folder, against the package as it is installed.
 * What they do not do: `npm i` is answered by what is there already (test/package installs the tarball), `npx kaos` runs it at once, and a
 * broker that the page expects on port 4222 is where `kaos up` put it, since other tests run beside this one.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { cachedNatsCli } from '../support/cached-nats-cli.ts'
import { cleanEnv } from '../support/cli.ts'
import { type Block, root } from './blocks.ts'

const PACK_MS = 60_000
const PAGE_MS = 80_000

/** What says that a command which stays is there. */
const STAYING: readonly (readonly [RegExp, string])[] = [
  [/kaos up /, 'Ctrl-C ends it'],
  [/kaos host /, '^ready '],
  [/kaos model serve/, 'the offline model answers at'],
  [/kaos tools serve .*--http/, '^serving '],
  [/nats sub /, 'Subscribing on'],
]

export class Desk implements AsyncDisposable {
  readonly folder: string
  private readonly env: NodeJS.ProcessEnv

  private constructor(folder: string, env: NodeJS.ProcessEnv) {
    this.folder = folder
    this.env = env
  }

  /** A folder with the packed package and what it needs under node_modules; each page gets one below it. */
  static async create(): Promise<Desk> {
    const folder = await mkdtemp(join(tmpdir(), 'kaos-docs-'))
    return Desk.furnish(folder).catch(async (error: unknown) => {
      await rm(folder, { recursive: true, force: true })
      throw error
    })
  }

  private static async furnish(folder: string): Promise<Desk> {
    const modules = join(folder, 'node_modules')
    await mkdir(join(folder, 'bin'), { recursive: true })
    await mkdir(modules)
    await run(process.execPath, [join(root, 'scripts', 'pack.ts'), join(modules, 'kaos-actors')], root)
    for (const name of await readdir(join(root, 'node_modules'))) {
      if (name !== 'kaos-actors' && !name.startsWith('.')) await symlink(join(root, 'node_modules', name), join(modules, name))
    }
    const kaos = `exec "${process.execPath}" "${join(modules, 'kaos-actors', 'cli', 'kaos.js')}" "$@"`
    await script(join(folder, 'bin', 'npx'), `[ "$1" = kaos ] && shift && ${kaos}\necho "npx $1 is not for this test" && exit 2`)
    await script(join(folder, 'bin', 'npm'), `case $1 in i|install|ci) exit 0 ;; esac\nPATH=\${PATH#*:} exec npm "$@"`)
    await symlink(await cachedNatsCli(), join(folder, 'bin', 'nats'))
    const path = [join(folder, 'bin'), dirname(process.execPath), process.env.PATH].join(delimiter)
    return new Desk(folder, cleanEnv({ PATH: path, HOME: folder, XDG_CACHE_HOME: process.env.XDG_CACHE_HOME ?? home('.cache') }))
  }

  /**
   * Follows a page: writes the blocks that are files, runs those that are commands, in order, and resolves with what each command block printed,
   * by its line. Rejects with the block that failed and what it printed.
   */
  async follow(page: string, blocks: readonly Block[]): Promise<ReadonlyMap<number, string>> {
    const folder = await this.open(page, blocks)
    const out = await mkdtemp(join(this.folder, 'out-'))
    const steps: string[] = []
    for (const { line, file, language, text } of blocks) {
      if (language === 'sh') steps.push(`block ${line}\n${commandsOf(text)}`)
      if (file === undefined) continue
      await writeFile(join(out, `file-${line}`), text)
      steps.push(`place file-${line} ${file}`)
    }
    await writeFile(join(out, 'page.sh'), `. "${join(import.meta.dirname, 'reader.sh')}"\n${steps.join('\n')}\n`)
    // In a group of its own, so that nothing is left behind when its time is over.
    const child = spawn('bash', [join(out, 'page.sh')], {
      cwd: folder,
      detached: true,
      env: { ...this.env, OUT: out },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const said = collect(child)
    const late = setTimeout(() => process.kill(-child.pid!, 'SIGKILL'), PAGE_MS)
    const [code] = (await once(child, 'close')) as [number | null]
    clearTimeout(late)
    const printed = new Map<number, string>()
    for (const { line } of blocks) printed.set(line, await readFile(join(out, String(line)), 'utf8').catch(() => ''))
    if (code === 0) return printed
    const last = blocks.findLast(({ line }) => printed.get(line) !== '') ?? blocks[0]!
    const failed = await readFile(join(out, 'failed'), 'utf8').catch(() => `no end within ${PAGE_MS} ms`)
    throw new Error(`the block at ${last.where} failed: ${failed}${said.text}\n${printed.get(last.line)}`)
  }

  /** Type-checks blocks that are files, each beside those of its page and the team that `kaos init` makes. Rejects with what tsc said. */
  async typeCheck(blocks: readonly Block[]): Promise<void> {
    const team = join(root, 'docs', 'examples', 'team')
    const folder = join(this.folder, 'types')
    const files: string[] = []
    for (const { page, file, text } of blocks) {
      const own = join(folder, nameOf(page))
      // What a page shows comes over what the team has of that name.
      if (!existsSync(own)) await cp(team, own, { recursive: true })
      await mkdir(dirname(join(own, file!)), { recursive: true })
      await writeFile(join(own, file!), text)
      files.push(join(own, file!))
    }
    const options = JSON.parse(await readFile(join(team, 'tsconfig.json'), 'utf8')) as object
    await writeFile(join(folder, 'package.json'), PACKAGE)
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ ...options, files }))
    await run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', '.'], folder)
  }

  /** A new folder. A page beside a sample begins in a copy of that; one that names files of the checkout finds them. */
  private async open(page: string, blocks: readonly Block[]): Promise<string> {
    const folder = join(this.folder, nameOf(page))
    await mkdir(folder)
    const sample = dirname(join(root, page))
    if (page.startsWith(join('docs', 'examples'))) await cp(sample, folder, { recursive: true })
    for (const name of ['docs', 'manifests']) {
      if (blocks.some(({ text }) => text.includes(`${name}/`))) await symlink(join(root, name), join(folder, name))
    }
    await writeFile(join(folder, 'package.json'), PACKAGE)
    return folder
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

/** Each line as it is, but for those that stay, and those whose comment says with which code they exit. */
export function commandsOf(text: string): string {
  return text
    .split('\n')
    .map((line) => {
      const command = line.replaceAll('127.0.0.1:4222', '$BROKER').replace(/ +# .*$/, '')
      const ready = STAYING.find(([pattern]) => pattern.test(command))?.[1]
      if (ready !== undefined && !line.startsWith('#')) {
        const anyPort = /kaos up /.test(command) && !/--port/.test(command) ? `${command} --port 0` : command
        return `stays ${quoted(ready)} ${quoted(/^\w+=/.test(command) ? `env ${anyPort}` : anyPort)}`
      }
      const code = / # .*\bexits (\d+)/.exec(line)?.[1]
      return code === undefined ? command : `exits ${code} ${quoted(command)}`
    })
    .join('\n')
}

const PACKAGE = JSON.stringify({ type: 'module', scripts: { test: 'node --test' } })

function nameOf(page: string): string {
  return page.replaceAll(/[/.]/g, '-')
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

function home(name: string): string {
  return join(process.env.HOME ?? tmpdir(), name)
}

async function script(path: string, text: string): Promise<void> {
  await writeFile(path, `#!/bin/sh\n${text}\n`)
  await chmod(path, 0o755)
}

/** Rejects with what the command printed. */
export async function run(command: string, args: readonly string[], cwd: string): Promise<void> {
  const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'], timeout: PACK_MS })
  const said = collect(child)
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`"${[command, ...args].join(' ')}" ended with code ${code}:\n${said.text}`)
}

/** What a command prints, as it comes. */
function collect(child: ChildProcessByStdio<null, Readable, Readable>): { text: string } {
  const said = { text: '' }
  const add = (chunk: Buffer) => {
    said.text += chunk
  }
  child.stdout.on('data', add)
  child.stderr.on('data', add)
  return said
}
