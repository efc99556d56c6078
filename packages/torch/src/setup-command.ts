/** Loads no engine: who asks may lack it. What sets the engine up: in this folder, or where the packages made of it were installed. */
export const setupCommand = import.meta.url.endsWith(".ts") ? "npm run setup" : "npx anchor setup";
