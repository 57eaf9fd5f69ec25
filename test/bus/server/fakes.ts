/** Stand-ins for what a machine may have: a nats-server of some version, a Go toolchain, a folder of releases on the web. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { archivePlatform } from '../../../bus/server/binary/archive.ts'
import { SERVER_VERSION_PINNED } from '../../../bus/server/binary/version.ts'

export const ARCHIVE = `nats-server-v${SERVER_VERSION_PINNED}-${archivePlatform()}.tar.gz`

export interface Machine {
  /** An empty PATH folder and an empty cache. */
  readonly env: NodeJS.ProcessEnv
  readonly bin: string
  readonly cache: string
  /** What was said. */
  readonly lines: string[]
  readonly say: (line: string) => void
  remove(): Promise<void>
}

export async function createMachine(): Promise<Machine> {
  const folder = await mkdtemp(join(tmpdir(), 'kaos-test-machine-'))
  const bin = join(folder, 'bin')
  const cache = join(folder, 'cache')
  await mkdir(bin)
  const lines: string[] = []
  return {
    env: { PATH: bin, XDG_CACHE_HOME: cache, HOME: folder },
    bin,
    cache: join(cache, 'kaos'),
    lines,
    say: (line) => void lines.push(line),
    remove: () => rm(folder, { recursive: true, force: true }),
  }
}

export function serverScript(version: string): string {
  return `#!/bin/sh\necho "nats-server: v${version}"\n`
}

export async function writeScript(path: string, text: string): Promise<string> {
  await writeFile(path, text, { mode: 0o755 })
  return path
}

/** A `go` that "builds" the server at once. */
export function writeGo(machine: Machine): Promise<string> {
  const script = `#!/bin/sh
[ "$1 $2" = "install github.com/nats-io/nats-server/v2@v${SERVER_VERSION_PINNED}" ] || exit 9
printf '#!/bin/sh\\necho "nats-server: v${SERVER_VERSION_PINNED}"\\n' > "$GOBIN/nats-server"
/bin/chmod 755 "$GOBIN/nats-server"
`
  return writeScript(join(machine.bin, 'go'), script)
}

export interface Releases {
  readonly url: string
  /** Paths that were asked for. */
  readonly requests: string[]
  stop(): Promise<void>
}

/** Serves an archive with a server script in it, and SHA256SUMS. */
export async function serveReleases(options: { readonly sum?: string; readonly file?: string } = {}): Promise<Releases> {
  const archive = await packArchive(options.file ?? 'nats-server')
  const sum = options.sum ?? createHash('sha256').update(archive).digest('hex')
  const files: Record<string, Buffer | string> = {
    [`/${ARCHIVE}`]: archive,
    '/SHA256SUMS': `${'0'.repeat(64)}  another-file.zip\n${sum}  ${ARCHIVE}\n`,
  }
  const requests: string[] = []
  const server = createServer((request, response) => {
    requests.push(request.url ?? '')
    const body = files[request.url ?? '']
    response.writeHead(body ? 200 : 404).end(body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    stop: () => new Promise((resolve) => server.close(() => resolve())),
  }
}

/** Packed as the releases are: everything in one folder. */
async function packArchive(file: string): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'kaos-test-archive-'))
  const inner = ARCHIVE.replace('.tar.gz', '')
  await mkdir(join(folder, inner))
  await writeFile(join(folder, inner, 'README.md'), 'a file before it\n')
  await writeScript(join(folder, inner, file), serverScript(SERVER_VERSION_PINNED))
  execFileSync('tar', ['-czf', 'archive', `${inner}/README.md`, `${inner}/${file}`], { cwd: folder })
  const archive = await readFile(join(folder, 'archive'))
  await rm(folder, { recursive: true })
  return archive
}
