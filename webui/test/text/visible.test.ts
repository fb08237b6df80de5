import { expect, test } from "vitest";
import { hides, visible } from "../../src/text/visible";

test.each([
  ["echo hi \u2067; touch x #\u2069", "echo hi <U+2067>; touch x #<U+2069>"],
  ["safe\u202eevil", "safe<U+202E>evil"],
  ["rm -rf ./a\u200b", "rm -rf ./a<U+200B>"],
  ["a\u{e0041}\u{e0100}", "a<U+E0041><U+E0100>"],
  ["x\u3164\uffa0\u115f\u2800\u00ad\u034f", "x<U+3164><U+FFA0><U+115F><U+2800><U+00AD><U+034F>"],
  ["\u001b[31mred\u0007\rover\u007f\u009b", "␛[31mred␇␍over␡<U+009B>"],
  ["rm\u00a0x\u3000y\u2003z", "rm<U+00A0>x<U+3000>y<U+2003>z"],
  ["\ud800", "\ufffd"],
  ["a\ufe0f \u200dx", "a<U+FE0F> <U+200D>x"],
])("%j is shown as %s", (text, shown) => {
  expect(visible(text)).toBe(shown);
  expect(hides({ deep: [text] })).toBe(true);
  expect(hides({ [text]: 1 })).toBe(true);
});

test.each(["plain, ünï😀\tand\nlines", "a\r\nb", "👩‍💻 ❤️ 1️⃣", "می‌خواهم", "שלום, world", "クロード　です", 7, null])(
  "%j hides nothing",
  (value) => {
    expect(hides([value])).toBe(false);
    if (typeof value === "string") expect(visible(value)).toBe(value.replace("\r", ""));
  },
);

test("every character that Unicode says to ignore or to format with, and every other space, is marked", () => {
  const missed: string[] = [];
  for (let code = 0; code <= 0x10ffff; code += 1) {
    const text = String.fromCodePoint(code);
    if (!/[\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\p{Cc}\p{Cf}\p{Cs}\p{Z}\u2800]/u.test(text)) continue;
    if (!"\t\n ".includes(text) && visible(text) === text) missed.push(code.toString(16));
  }
  expect(missed).toEqual([]);
});
