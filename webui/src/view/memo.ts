import { Component, h, type ComponentChildren, type ComponentType } from "preact";

/** A component that is drawn again only when a property is another one. */
export function memo<Props extends object>(inner: ComponentType<Props>): ComponentType<Props> {
  return class Memo extends Component<Props> {
    override shouldComponentUpdate(next: Props): boolean {
      const names = new Set([...Object.keys(this.props), ...Object.keys(next)]) as Set<keyof Props>;
      return [...names].some((name) => this.props[name] !== next[name]);
    }

    override render(): ComponentChildren {
      return h(inner, this.props);
    }
  };
}
