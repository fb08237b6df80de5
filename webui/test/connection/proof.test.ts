import { expect, test } from "vitest";
import { ProvenWire } from "../../src/connection/proof";
import { FakeWire, settle } from "./network";

test("a connection is open once the server has taken the proof, and hands nothing on before", async () => {
  const inner = new FakeWire();
  const heard: string[] = [];
  const wire = new ProvenWire(inner, (nonce) => Promise.resolve(`signed ${nonce}`));
  wire.onopen = () => heard.push("open");
  wire.onmessage = ({ data }: { readonly data: string }) => heard.push((JSON.parse(data) as { type: string }).type);
  wire.onclose = ({ code }: { readonly code: number }) => heard.push(`closed ${code}`);
  inner.accept();
  inner.say({ type: "project_state", data: {} });
  inner.say("{");
  expect(heard).toEqual([]);
  inner.say({ type: "challenge", data: { nonce: "n" } });
  await settle();
  expect(inner.sent).toEqual([{ type: "prove", data: { signature: "signed n" } }]);
  inner.say({ type: "prove", data: { device_id: "d" } });
  await settle();
  inner.say({ type: "project_state", data: {} });
  inner.drop(4001);
  expect(heard).toEqual(["open", "project_state", "closed 4001"]);
});
