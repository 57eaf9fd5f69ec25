/**
 * Joins the modules that every start of the command loads, those of the project and of most of its dependencies, into few files. A pod that is woken
 * for a task loads some 600 of them first: most of the time until it begins, and with the files of a bundle two thirds of the work.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { rolldown } from 'rolldown'

/**
 * They stay as they are: what user code shares with the command, what patches or finds other modules by their names, and what few processes
 * load, when they need it.
 */
const APART = [/^node:/, /^(xstate|pino|pino-pretty)(\/|$)/, /^@(opentelemetry|kubernetes|modelcontextprotocol)\//]
/** Of the package: the command, and what users import. Both have one copy of each module. */
const ENTRIES = ['cli/main', 'public/index', 'public/testing', 'public/replay'] as const
const FOLDER = 'bundle'

/**
 * Bundles the package of the project in `root/node_modules`, where its dependencies have to be. Its own files stay: what stands beside a module is
 * found from where the module was, and the agent's machine is known by its source. The same files give the same bundle.
 */
export async function bundleProject(root: string): Promise<void> {
  const own = join(root, 'node_modules', 'kaos-actors')
  const nameOf = (entry: string) => entry.replace('/', '-')
  const bundle = await rolldown({
    // Paths in the output count from here.
    cwd: root,
    input: Object.fromEntries(ENTRIES.map((entry) => [nameOf(entry), join(own, `${entry}.js`)])),
    platform: 'node',
    external: APART,
    plugins: [{ name: 'places', transform: (code, id) => atItsPlace(code, relative(own, id).split(sep).join('/')) }],
  })
  try {
    await bundle.write({ dir: join(own, FOLDER), format: 'esm', entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js' })
  } finally {
    await bundle.close()
  }
  for (const entry of ENTRIES) {
    const file = join(own, `${entry}.js`)
    const exported = /^export /m.test(await readFile(file, 'utf8'))
    await writeFile(file, `${exported ? 'export * from' : 'import'} '../${FOLDER}/${nameOf(entry)}.js'\n`)
  }
}

/** All files of the bundle lie in one folder of the package, and so can name the place that a module of the package had. */
function atItsPlace(code: string, path: string): string | undefined {
  if (path.startsWith('..') || !code.includes('import.meta.url')) return undefined
  return code.replaceAll('import.meta.url', `new URL('../${path}', import.meta.url).href`)
}
