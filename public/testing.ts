/** What `import … from 'kaos-actors/testing'` offers: tests of machines and of whole systems without a model, a cluster or a network. */
export { type Driven, type DrivenOutcome, drive, type PendingEffect } from '../actors/testing/drive.ts'
