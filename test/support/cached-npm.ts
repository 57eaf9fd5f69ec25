/** Packages that tests run but the project does not depend on: installed once in an exact version, where nats-server is cached too. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdir, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { cacheFolder, inWorkFolder } from '../../bus/server/binary/cache.ts'

const INSTALL_MS = 240_000

/** The folder of the installed package. Its install scripts are not run. Rejects with what npm said. */
export async function cachedPackage(name: string, version: string, env: NodeJS.ProcessEnv = process.env): Promise<string> {
  const home = join(cacheFolder(env), 'npm', `${name.replaceAll('/', '+')}-${version}`)
  const found = join(home, 'node_modules', name)
  if (await exists(found)) return found
  await inWorkFolder(env, async (work) => {
    const folder = join(work, 'package')
    await mkdir(folder)
    await writeFile(join(folder, 'package.json'), '{ "private": true }')
    await install(`${name}@${version}`, folder, env)
    await mkdir(dirname(home), { recursive: true })
    // Whole or not at all; if another test was faster, its folder is as good.
    await rename(folder, home).catch(async (error: unknown) => {
      if (!(await exists(found))) throw error
    })
  })
  return found
}

async function install(what: string, folder: string, env: NodeJS.ProcessEnv): Promise<void> {
  const args = ['install', '--prefix', folder, '--ignore-scripts', '--no-audit', '--no-fund', '--save-exact', what]
  const child = spawn('npm', args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'], timeout: INSTALL_MS })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-2_000)
    })
  }
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`"npm install ${what}" ended with code ${code}: ${said}`)
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
