/** The weather of a day, made up from the name of the city, so that the sample needs no network and no key. */
import { tool, z } from 'kaos-actors'
import { weekday } from './weekday.ts'

const SKIES = ['sunny', 'cloudy', 'rainy in the afternoon', 'windy'] as const

export const mcp_weather = tool({
  description: 'Tells the weather of a city on a day of this week.',
  input: z.object({ city: z.string().min(1).max(100).describe('Name of the city, such as "Lisbon"'), day: weekday }),
  readOnlyHint: true, // it may be asked again after a crash
  run({ city, day }) {
    const luck = [...`${city} ${day}`.toLowerCase()].reduce((sum, letter) => sum + letter.codePointAt(0)!, 0)
    return `${SKIES[luck % SKIES.length]}, ${12 + (luck % 15)} °C`
  },
})
