/**
 * `npm run image`: writes the image of operator, agents and tool servers as an archive, without a Docker engine; for `kind load image-archive`,
 * `ctr images import`, `docker load`, and clusters without a registry. The same checkout, Node and system give the same bytes.
 * `-- --out FILE`: where to, instead of dist/image.tar. `-- --name NAME:TAG`. `-- --root FOLDER`: only the files that stand in it, as the Dockerfile takes them.
 */
import { mkdir, mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { type ImageConfig, writeImageArchive } from './image/archive.ts'
import { LAYERS, layOut, packProject, WORKING_DIR } from './image/root.ts'

const project = join(import.meta.dirname, '..')
const DEFAULT_OUT = join(project, 'dist', 'image.tar')
const REPOSITORY = 'docker.io/library/kaos-actors'
const USER = '65532:65532'
const MB = 1_000_000

interface Written {
  readonly file: string
  readonly name: string
  /** Of the manifest: what `image@sha256:…` names. */
  readonly digest: string
  readonly bytes: number
}

/** `packed`: the project as `packProject` made it; absent: it is packed for this image. */
export async function writeImage(
  options: { readonly out?: string | undefined; readonly name?: string | undefined; readonly packed?: string } = {},
): Promise<Written> {
  const { version, license } = JSON.parse(await readFile(join(project, 'package.json'), 'utf8')) as Record<string, string>
  const name = options.name ?? `${REPOSITORY}:${version}`
  const file = resolve(options.out ?? DEFAULT_OUT)
  return inWorkFolder(async (work) => {
    const root = join(work, 'root')
    await layOut(root, options.packed ?? (await packedIn(work)))
    await mkdir(dirname(file), { recursive: true })
    const Labels = {
      'org.opencontainers.image.title': 'kaos-actors',
      'org.opencontainers.image.version': version!,
      'org.opencontainers.image.licenses': license!,
    }
    const digest = await writeImageArchive({ root, layers: LAYERS, name, file, config: { ...imageConfig, Labels } })
    return { file, name, digest, bytes: (await stat(file)).size }
  })
}

async function packedIn(work: string): Promise<string> {
  const packed = join(work, 'packed')
  await packProject(packed)
  return packed
}

async function inWorkFolder<T>(use: (work: string) => Promise<T>): Promise<T> {
  const work = await mkdtemp(join(tmpdir(), 'kaos-image-'))
  try {
    return await use(work)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

export const imageConfig: ImageConfig = {
  User: USER,
  // /tmp is the one folder that can be written in, in pods an empty volume.
  Env: ['PATH=/usr/local/bin', 'HOME=/tmp', 'NODE_ENV=production'],
  Entrypoint: ['/usr/local/bin/kaos'],
  Cmd: ['--help'],
  WorkingDir: WORKING_DIR,
  StopSignal: 'SIGTERM',
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { out: { type: 'string' }, name: { type: 'string' }, root: { type: 'string' } } })
  const { root } = values
  if (root !== undefined) await inWorkFolder(async (work) => layOut(resolve(root), await packedIn(work)))
  else {
    const { file, name, digest, bytes } = await writeImage(values)
    console.log(`${file}: ${name}, ${Math.round(bytes / MB)} MB, ${digest}`)
  }
}
