import { useRef, useState } from 'react';
import { asRefusal } from '../api/problem';
import { Button } from '../ui/button';
import { csv, download } from '../ui/csv';
import { say } from '../ui/toast';
import { allDevices, type DeviceFilter } from './queries';

/** Every device of the filter as a CSV file, not only the page that is shown. */
export function Export({ filter }: { filter: Omit<DeviceFilter, 'cursor'> }) {
  const [count, setCount] = useState<number | null>(null);
  const running = useRef<AbortController>(null);
  const start = async () => {
    const control = new AbortController();
    running.current = control;
    setCount(0);
    try {
      const all = await allDevices(filter, setCount, control.signal);
      const head = ['device_id', 'name', 'site_id', 'tier', 'subscription_id', 'status'];
      const times = ['registered_at', 'last_seen_at'];
      download(
        'devices.csv',
        csv([
          [...head, ...times],
          ...all.map((one) => [
            one.device_id,
            one.name ?? '',
            one.site_id ?? '',
            one.tier_name ?? '',
            one.subscription_id ?? '',
            one.status,
            one.registered_at,
            one.last_seen_at ?? '',
          ]),
        ]),
      );
      say(`${all.length} devices are in devices.csv.`);
    } catch (error) {
      if (!control.signal.aborted) say(asRefusal(error).message);
    } finally {
      setCount(null);
    }
  };
  if (count === null) {
    return <Button onClick={() => void start()}>Export CSV</Button>;
  }
  return (
    <span className="row" role="status">
      {`${count} read …`} <Button onClick={() => running.current?.abort()}>Stop</Button>
    </span>
  );
}
