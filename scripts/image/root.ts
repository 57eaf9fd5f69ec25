/**
 * The files of the image: a Node with the shared objects that it needs, the packed project, and its dependencies at the root, where the code of
 * users finds them from any folder, and in the same copy as the command. No shell and no package manager.
 */
import { execFile } from 'node:child_process'
import { chmod, cp, mkdir, readFile, realpath, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { bundleProject } from './bundle.ts'

const project = join(import.meta.dirname, '..', '..')
const run = promisify(execFile)
const PACK_MS = 300_000

/** Folder of users: relative paths of manifests count from it. */
export const WORKING_DIR = '/app'

/** From what changes least to what changes most: a new version of the project is then a small download. */
export const LAYERS = [
  { name: 'node and its libraries', holds: (path: string) => !path.startsWith('node_modules') },
  { name: 'dependencies', holds: (path: string) => path.startsWith('node_modules') && !isProject(path) },
  { name: 'project', holds: isProject },
] as const

function isProject(path: string): boolean {
  return path === 'node_modules/kaos-actors' || path.startsWith('node_modules/kaos-actors/')
}

/** Reading code needs these, running it does not. */
const LEFT_OUT = /\.(d\.[cm]?ts|map|tgz)$|(^|\/)\.package-lock\.json$/

/** Fills an empty or new folder, with the project as `packProject` made it. Throws when this machine is none that pods of Linux can be made from, or a dependency is not installed. */
export async function layOut(root: string, packed: string): Promise<void> {
  await mkdir(join(root, 'node_modules'), { recursive: true })
  await Promise.all([placeNode(root), placeProject(root, packed), placeDependencies(root), placeSystem(root)])
  await bundleProject(root)
}

async function placeNode(root: string): Promise<void> {
  if (process.platform !== 'linux')
    throw new Error(`could not make an image on "${process.platform}": its files have to come from Linux`)
  const node = await realpath(process.execPath)
  await place(root, node, '/usr/local/bin/node', 0o755)
  for (const library of await sharedObjects(node)) await place(root, await realpath(library), library, 0o755)
}

/**
 * As the loader finds them; and those that older C libraries load for names of hosts and users. A path like /lib64/x is kept: the loader's own
 * stands in the binary.
 */
async function sharedObjects(binary: string): Promise<readonly string[]> {
  const { stdout } = await run('ldd', [binary])
  const found = [...stdout.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1]!)
  const libc = found.find((path) => basename(path).startsWith('libc.so'))
  if (!libc) throw new Error(`could not make an image from "${binary}": ldd names no C library, but says:\n${stdout}`)
  const byName = ['libnss_files.so.2', 'libnss_dns.so.2', 'libresolv.so.2'].map((name) => join(dirname(libc), name))
  const present = await Promise.all(
    byName.map((path) =>
      stat(path).then(
        () => path,
        () => undefined,
      ),
    ),
  )
  return [...new Set([...found, ...present.filter((path) => path !== undefined)])].toSorted()
}

/** The project as users install it, in a new folder. */
export async function packProject(folder: string): Promise<void> {
  await run(process.execPath, [join(project, 'scripts', 'pack.ts'), folder], { cwd: project, timeout: PACK_MS })
}

async function placeProject(root: string, packed: string): Promise<void> {
  await copyTree(packed, join(root, 'node_modules', 'kaos-actors'))
  const bin = join(root, 'usr', 'local', 'bin')
  await mkdir(bin, { recursive: true })
  // Its own first line asks for /usr/bin/env, which is not there.
  await writeFile(join(bin, 'kaos'), "#!/usr/local/bin/node\nimport('/node_modules/kaos-actors/cli/kaos.js')\n", { mode: 0o755 })
}

interface Lock {
  readonly packages: Readonly<
    Record<string, { readonly dev?: true; readonly optional?: true; readonly devOptional?: true; readonly link?: true }>
  >
}

/** Exactly what the lock file has, from where it is installed. Packages that users bring themselves (`peerDependencies`) come along: here there is no user yet. */
async function placeDependencies(root: string): Promise<void> {
  const lock = JSON.parse(await readFile(join(project, 'package-lock.json'), 'utf8')) as Lock
  const { peerDependencies = {} } = JSON.parse(await readFile(join(project, 'package.json'), 'utf8')) as {
    peerDependencies?: Record<string, string>
  }
  const peers = Object.keys(peerDependencies).map((name) => `node_modules/${name}`)
  const wanted = Object.entries(lock.packages)
    .filter(
      ([path, { dev, optional, devOptional, link }]) =>
        path !== '' && (peers.includes(path) || !(dev || optional || devOptional || link)),
    )
    .map(([path]) => path)
  for (const path of wanted) {
    await copyTree(join(project, path), join(root, path)).catch((error: unknown) => {
      throw new Error(`could not copy "${path}" of the lock file: run "npm ci"`, { cause: error })
    })
  }
}

/** Without what is nested: the lock file has an entry for each of those. */
async function copyTree(from: string, to: string): Promise<void> {
  await cp(from, to, {
    recursive: true,
    dereference: true,
    filter: (source) => {
      const path = source.slice(from.length)
      return !LEFT_OUT.test(path) && !/^\/node_modules(\/|$)/.test(path)
    },
  })
}

async function placeSystem(root: string): Promise<void> {
  const etc = join(root, 'etc')
  await mkdir(etc, { recursive: true })
  await writeFile(join(etc, 'passwd'), 'root:x:0:0:root:/:/sbin/nologin\nkaos:x:65532:65532:kaos:/tmp:/sbin/nologin\n')
  await writeFile(join(etc, 'group'), 'root:x:0:\nkaos:x:65532:\n')
  await writeFile(join(etc, 'nsswitch.conf'), 'hosts: files dns\n')
  await writeFile(join(etc, 'hosts'), '127.0.0.1 localhost\n::1 localhost\n')
  for (const folder of ['tmp', WORKING_DIR.slice(1)]) await mkdir(join(root, folder), { recursive: true })
  await chmod(join(root, 'tmp'), 0o1777)
  // What container runtimes mount over: on a read-only root they cannot make it.
  for (const folder of ['dev', 'proc', 'sys', 'run']) await mkdir(join(root, folder), { recursive: true })
}

async function place(root: string, from: string, to: string, mode: number): Promise<void> {
  const target = join(root, to)
  await mkdir(dirname(target), { recursive: true })
  await cp(from, target)
  await chmod(target, mode)
}
