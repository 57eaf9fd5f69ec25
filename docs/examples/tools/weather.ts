/** Two tools about the weather. They make it up, always in the same way, so that they need no network and no key. */
import { tool } from 'kaos-actors'
import { z } from 'zod'

const SKIES = ['sunny', 'cloudy', 'rainy', 'windy'] as const

const city = z.string().min(1).max(100).describe('Name of a city, such as "Bern"')

/** Its name is the name of its export. */
export const forecast = tool({
  description: 'Tells the weather of a city for the next days.',
  input: z.object({ city, days: z.number().int().min(1).max(7).default(1).describe('How many days, today included') }),
  output: z.object({
    city: z.string(),
    days: z.array(z.object({ sky: z.enum(SKIES), highCelsius: z.number() })),
  }),
  readOnlyHint: true,
  run: ({ city, days }) => ({
    city,
    days: Array.from({ length: days }, (_, day) => {
      const chance = chanceOf(city, day)
      return { sky: SKIES[chance % SKIES.length]!, highCelsius: 5 + (chance % 25) }
    }),
  }),
})

/** It sends something, so a crash must not repeat it unless whoever takes it knows the key again. */
export const warn = tool({
  description: 'Warns the people of a city of bad weather.',
  input: z.object({ city, words: z.string().max(280) }),
  idempotentHint: true,
  run: async ({ city, words }, { idempotencyKey, signal }) => {
    signal.throwIfAborted()
    return `warning ${idempotencyKey} for ${city}: ${words}`
  },
})

function chanceOf(city: string, day: number): number {
  return [...city.toLowerCase()].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)!) % 9_973, 7) + day * 3
}
