/** How long texts and lists of a manifest may be, and which lists are sets or maps: Kubernetes merges those by element. */
import { z } from 'zod'

/** Names of Secrets, ServiceAccounts and the like, as Kubernetes has them. */
export const objectNameCharsMax = 253
/** What reaches a pod in a variable: Linux takes 128 KiB in one. */
export const textCharsMax = 131_072
export const urlCharsMax = 2_048
export const pathCharsMax = 4_096
/** Cloud providers name models by paths of a few hundred characters. */
export const modelNameCharsMax = 512
/** Peers of an agent, tool servers of an agent: each is offered to the model. */
export const referencesMax = 100
export const modelsMax = 1_000
export const environmentMax = 500
export const argumentsMax = 500
export const mountsMax = 100

/** Text of at most so many characters. */
export function text(charsMax: number = textCharsMax) {
  return z.string().max(charsMax, { error: `text of at most ${charsMax} characters` })
}

/** Text that is not empty, of at most so many characters. */
export function name(charsMax: number = objectNameCharsMax) {
  return z
    .string()
    .min(1)
    .max(charsMax, { error: `text of at most ${charsMax} characters` })
}

/** A list that counts as one value. */
export function list<Element extends z.ZodType>(element: Element, max: number) {
  return z.array(element).max(max, { error: `a list of at most ${max}` })
}

/** A list in which each value stands once; two writers may each add to it. */
export function setOf<Element extends z.ZodType>(element: Element, max: number) {
  return list(element, max)
    .superRefine((values, context) => refuseRepeated(values, [], context))
    .meta({ 'x-kubernetes-list-type': 'set' })
}

/** A list of objects known by one of their fields, which is required; two writers may each have their own. */
export function mapOf<Element extends z.ZodObject>(element: Element, key: keyof Element['shape'] & string, max: number) {
  return list(element, max)
    .superRefine((values, context) =>
      refuseRepeated(
        values.map((value) => value[key]),
        [key],
        context,
      ),
    )
    .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': [key] })
}

function refuseRepeated(values: readonly unknown[], below: readonly string[], context: z.RefinementCtx): void {
  for (const [index, value] of values.entries()) {
    if (values.indexOf(value) < index) context.addIssue({ code: 'custom', path: [index, ...below], message: 'each name once' })
  }
}
