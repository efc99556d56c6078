/** Which body model an avatar uses: the mannequin, or an SMPL-X file its user brought. */
import { loadBodyModel, mannequin, type BodyModelData } from "@make-your-anchor/body";

const loaded = new Map<string, BodyModelData>();

/** `name` is `"mannequin"` or a path to an SMPL-X .npz (which its licence allows for non-commercial research only). */
export function bodyModel(name: string): BodyModelData {
  if (name === "mannequin") return mannequin();
  let data = loaded.get(name);
  if (!data) loaded.set(name, (data = loadBodyModel(name)));
  return data;
}
