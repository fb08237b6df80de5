import eslint from "@eslint/js";
import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";

export default defineConfig(
  { ignores: ["node_modules", "public", "src/wire/generated.ts"] },
  eslint.configs.recommended,
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "Only text/sanitize makes nodes of markup." },
        { property: "outerHTML", message: "Only text/sanitize makes nodes of markup." },
        { property: "insertAdjacentHTML", message: "Only text/sanitize makes nodes of markup." },
      ],
      "no-restricted-syntax": [
        "error",
        {
          selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']",
          message: "Only text/sanitize makes nodes of markup.",
        },
      ],
      eqeqeq: "error",
      complexity: ["error", 14],
      "max-lines": ["error", { max: 320, skipBlankLines: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
    },
  },
  { files: ["eslint.config.js"], extends: [tseslint.configs.disableTypeChecked] },
);
