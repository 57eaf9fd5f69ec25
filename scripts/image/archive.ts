/**
 * Writes an image archive that reads both as an OCI layout and as what `docker save` writes: the same blobs, under two tables of contents. Times and
 * owners are fixed and files sorted, so that the same files give the same digest.
 */
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { type Header, type Pack, pack } from 'tar-stream'

/** As the OCI image specification names its fields. */
export interface ImageConfig {
  readonly User: string
  readonly Env: readonly string[]
  readonly Entrypoint: readonly string[]
  readonly Cmd: readonly string[]
  readonly WorkingDir: string
  readonly StopSignal: string
  readonly Labels?: Readonly<Record<string, string>>
}

export interface ImageLayer {
  /** For people: what `docker history` shows. */
  readonly name: string
  /** Whether a path, without a slash at its beginning, belongs to it. Folders come into the first layer that has something in them. */
  readonly holds: (path: string) => boolean
}

export interface ImageParts {
  readonly root: string
  readonly layers: readonly ImageLayer[]
  /** With registry and tag, as pods name it. */
  readonly name: string
  readonly file: string
  readonly config: ImageConfig
}

interface Blob {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
  readonly source: { readonly file: string } | { readonly text: string }
}

const EPOCH = new Date(0)
const CREATED = EPOCH.toISOString()
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' }

/** Resolves to the digest of the image's manifest. */
export async function writeImageArchive({ root, layers, name, file, config }: ImageParts): Promise<string> {
  const work = await mkdtemp(join(tmpdir(), 'kaos-layers-'))
  try {
    const paths = await pathsBelow(root)
    const layerBlobs: Blob[] = []
    for (const [at, { holds }] of layers.entries()) {
      layerBlobs.push(await writeLayer(root, paths.filter(holds), join(work, `${at}.tar`)))
    }
    const configBlob = jsonBlob('application/vnd.oci.image.config.v1+json', {
      architecture: ARCHITECTURES[process.arch] ?? process.arch,
      os: 'linux',
      created: CREATED,
      config,
      rootfs: { type: 'layers', diff_ids: layerBlobs.map(({ digest }) => digest) },
      history: layers.map(({ name: comment }) => ({ created: CREATED, created_by: 'npm run image', comment })),
    })
    const manifest = jsonBlob('application/vnd.oci.image.manifest.v1+json', {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: descriptor(configBlob),
      layers: layerBlobs.map(descriptor),
    })
    await writeArchive(file, name, { configBlob, manifest, layerBlobs })
    return manifest.digest
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function writeArchive(
  file: string,
  name: string,
  {
    configBlob,
    manifest,
    layerBlobs,
  }: { readonly configBlob: Blob; readonly manifest: Blob; readonly layerBlobs: readonly Blob[] },
): Promise<void> {
  const annotations = { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': name.split(':').at(-1)! }
  const index = { schemaVersion: 2, manifests: [{ ...descriptor(manifest), annotations }] }
  const docker = [{ Config: blobPath(configBlob), RepoTags: [name], Layers: layerBlobs.map(blobPath) }]
  const tar = pack()
  const written = pipeline(tar, createWriteStream(file))
  const adding = async () => {
    for (const folder of ['blobs', 'blobs/sha256']) await add(tar, { name: `${folder}/`, type: 'directory', mode: 0o755 })
    for (const blob of [configBlob, manifest, ...layerBlobs].toSorted((a, b) => (a.digest < b.digest ? -1 : 1))) {
      if ('text' in blob.source) await addText(tar, blobPath(blob), blob.source.text)
      else await addFile(tar, { name: blobPath(blob), mode: 0o644 }, blob.source.file)
    }
    await addText(tar, 'index.json', JSON.stringify(index))
    await addText(tar, 'manifest.json', JSON.stringify(docker))
    await addText(tar, 'oci-layout', JSON.stringify({ imageLayoutVersion: '1.0.0' }))
    tar.finalize()
  }
  await Promise.all([written, adding()])
}

/**
 * All files and folders, each folder before what is in it. Throws for anything else: a link may lead out of the root, and files of this machine
 * would become part of the image.
 */
async function pathsBelow(root: string, folder = ''): Promise<readonly string[]> {
  const paths: string[] = []
  for (const entry of await readdir(join(root, folder), { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (!entry.isFile() && !entry.isDirectory())
      throw new Error(`could not add "${path}" to an image: it is neither file nor folder`)
    paths.push(path)
    if (entry.isDirectory()) paths.push(...(await pathsBelow(root, path)))
  }
  return paths.toSorted((a, b) => (a < b ? -1 : 1))
}

async function writeLayer(root: string, paths: readonly string[], file: string): Promise<Blob> {
  const tar = pack()
  const written = pipeline(tar, createWriteStream(file))
  const adding = async () => {
    for (const path of paths) await addPath(tar, root, path)
    tar.finalize()
  }
  await Promise.all([written, adding()])
  const hash = createHash('sha256')
  await pipeline(createReadStream(file), hash)
  const mediaType = 'application/vnd.oci.image.layer.v1.tar'
  return { mediaType, digest: `sha256:${hash.digest('hex')}`, size: (await stat(file)).size, source: { file } }
}

async function addPath(tar: Pack, root: string, path: string): Promise<void> {
  const full = join(root, path)
  const found = await stat(full)
  if (found.isDirectory()) {
    const mode = found.mode & 0o1000 ? 0o1777 : 0o755
    await add(tar, { name: `${path}/`, type: 'directory', mode })
  } else await addFile(tar, { name: path, mode: found.mode & 0o100 ? 0o755 : 0o644 }, full)
}

async function addFile(tar: Pack, header: Pick<Header, 'name' | 'mode'>, file: string): Promise<void> {
  const entry = tar.entry({ ...fixed, ...header, type: 'file', size: (await stat(file)).size })
  await pipeline(createReadStream(file), entry)
}

async function addText(tar: Pack, name: string, text: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  tar.entry({ ...fixed, name, type: 'file', mode: 0o644 }, text, (error) => (error ? reject(error) : resolve()))
  await promise
}

async function add(tar: Pack, header: Header): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  tar.entry({ ...fixed, ...header }, (error) => (error ? reject(error) : resolve()))
  await promise
}

const fixed = { mtime: EPOCH, uid: 0, gid: 0 } as const

function jsonBlob(mediaType: string, value: object): Blob {
  const text = JSON.stringify(value)
  const digest = `sha256:${createHash('sha256').update(text).digest('hex')}`
  return { mediaType, digest, size: Buffer.byteLength(text), source: { text } }
}

function descriptor({ mediaType, digest, size }: Blob) {
  return { mediaType, digest, size }
}

function blobPath({ digest }: Blob): string {
  return `blobs/${digest.replace(':', '/')}`
}
