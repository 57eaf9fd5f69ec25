/** Reads the file with the configuration of an installation. */
import { readFileSync } from 'node:fs'
import { parse } from 'yaml'
import { KaosError, messageOf } from '../../bus/wire/errors.ts'
import { type Installation, readInstallation } from '../desired/installation.ts'

export const INSTALLATION_FILE = '/etc/kaos/installation.yaml'

/** YAML or JSON. Throws `bad_setting` for a file that cannot be read, and for what stands in it. */
export function readInstallationFile(path: string): Installation {
  return readInstallation(settingsIn(path))
}

function settingsIn(path: string): unknown {
  try {
    return parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw new KaosError('bad_setting', `could not read the configuration "${path}": ${messageOf(error)}`, { cause: error })
  }
}
