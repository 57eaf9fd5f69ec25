/** Loads the file of a machine: a TypeScript or JavaScript module whose default export is the machine. */
import { readFile } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import { KaosError } from '../../bus/wire/errors.ts'
import { type OwnMachine, registerOwnMachine } from './register.ts'

/** Throws `machine_file` when there is nothing to load, and what `registerOwnMachine` throws. A module is loaded once per process. */
export async function loadMachine(name: string, file: string): Promise<OwnMachine> {
  const source = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new KaosError('machine_file', `could not read the machine of agent "${name}" from "${file}": ${error.code}`, {
      cause: error,
    })
  })
  const module = await importFile(name, file)
  if (module.default === undefined) {
    const named = Object.keys(module).join(', ')
    const given = named === '' ? 'exports nothing' : `exports ${named} but no default`
    throw new KaosError('machine_file', `the machine of agent "${name}" must be the default export of "${file}", which ${given}`)
  }
  return registerOwnMachine(name, module.default, { source })
}

async function importFile(name: string, file: string): Promise<{ readonly [name: string]: unknown }> {
  try {
    return (await import(pathToFileURL(file).href)) as { readonly [name: string]: unknown }
  } catch (error) {
    if (error instanceof KaosError) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw new KaosError('machine_file', `could not load the machine of agent "${name}" from "${file}": ${reason}`, {
      cause: error,
    })
  }
}
