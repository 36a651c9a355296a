import { useEffect, useState } from 'react';

type Listener = (text: string) => void;
let listener: Listener | undefined;

/** Says in one line what was done, also to a screen reader. */
export function say(text: string) {
  listener?.(text);
}

export function Toast() {
  const [text, setText] = useState('');
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    listener = (said) => {
      setText(said);
      clearTimeout(timer);
      timer = setTimeout(() => setText(''), 6000);
    };
    return () => {
      listener = undefined;
      clearTimeout(timer);
    };
  }, []);
  return (
    <div className="toast" role="status">
      {text}
    </div>
  );
}
