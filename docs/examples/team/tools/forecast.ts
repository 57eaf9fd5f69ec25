/** The weather of tomorrow, made up from the name of the city: put your own service here. */
import { tool, z } from 'kaos-actors'

export default tool({
  description: 'Says how the weather of a city will be tomorrow.',
  input: z.object({ city: z.string().min(1).describe('Name of the city, such as "Lisbon"') }),
  output: z.object({ city: z.string(), celsius: z.number(), rain: z.boolean() }),
  readOnlyHint: true, // it may be asked again after a crash
  run({ city }) {
    const luck = [...city].reduce((sum, letter) => sum + letter.charCodeAt(0), 0)
    return { city, celsius: 5 + (luck % 25), rain: luck % 2 === 0 }
  },
})
