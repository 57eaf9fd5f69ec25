/** Every manifest that a reader is given: the samples, the blocks of the documents, and what KAOS's own samples are like. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { type Kind, kinds } from '../../manifests/loading/declaration.ts'
import { blocks, root } from '../docs/blocks.ts'

export interface GivenManifest {
  /** File or page, and the name. */
  readonly where: string
  readonly kind: Kind
  readonly object: { readonly metadata: { readonly name: string; readonly namespace?: string }; readonly spec: unknown }
}

const folders = [join(root, 'manifests', 'samples'), join(root, 'docs', 'examples'), join(import.meta.dirname, 'kaos')]

export function givenManifests(): readonly GivenManifest[] {
  const files = folders.flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.yaml') && !/node_modules|\.kaos/.test(file))
      .map((file) => join(folder, file)),
  )
  const texts = [
    ...files.map((file) => ({ where: relative(root, file), text: readFileSync(file, 'utf8') })),
    ...blocks.filter(({ language }) => language === 'yaml').map(({ where, text }) => ({ where, text })),
  ]
  return texts.flatMap(({ where, text }) =>
    parseAllDocuments(text, { merge: true })
      .map((document) => document.toJS() as GivenManifest['object'] & { kind?: string; apiVersion?: string })
      .filter((object) => object?.apiVersion === 'kaos.tools/v1alpha1' && Object.hasOwn(kinds, object.kind ?? ''))
      .map((object) => ({ where: `${where} ${object.kind} ${object.metadata.name}`, kind: object.kind as Kind, object })),
  )
}
