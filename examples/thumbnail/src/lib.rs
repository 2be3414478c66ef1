//! Makes a thumbnail of every image in the queue.
//!
//! The body is a JPEG or PNG. The thumbnail has the same format, at most 128 pixels on its longer side,
//! and goes to the queue `thumbnails` with its size and the source's id as attributes. What is not an
//! image, or is one too large to decode in the memory granted, becomes a dead letter that says so.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use sandhog_guest::{Failure, Message, OrFailure, Outgoing, send};

/// The longer side of a thumbnail, in pixels.
const SIDE_MAX: u32 = 128;
/// The size of an image once decoded, in bytes: some 22 megapixels. A progressive JPEG takes three times as
/// much while it is decoded, which is what the manifest's `memory` allows for.
const DECODED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Of 100.
const JPEG_QUALITY: u8 = 82;

sandhog_guest::handler!(handle);

fn handle(message: Message) -> Result<(), Failure> {
    let (small, format) = shrink(&message.body)?;
    let outgoing = Outgoing::new(encode(&small, format)?)
        .attribute("source", message.id)
        .attribute("content-type", format.to_mime_type())
        .attribute("width", small.width())
        .attribute("height", small.height());
    send("thumbnails", outgoing)?;
    Ok(())
}

/// Decodes a JPEG or PNG and shrinks it, turned the way that the camera says is up.
fn shrink(body: &[u8]) -> Result<(DynamicImage, ImageFormat), Failure> {
    let format = image::guess_format(body)
        .ok()
        .filter(|format| matches!(format, ImageFormat::Jpeg | ImageFormat::Png))
        .ok_or_else(|| Failure::reject("the body is neither a JPEG nor a PNG"))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    let mut reader = ImageReader::with_format(Cursor::new(body), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().or_reject()?;
    if decoder.total_bytes() > DECODED_BYTES_MAX {
        let (width, height) = decoder.dimensions();
        return Err(Failure::reject(format!(
            "an image of {width} x {height} pixels is too large"
        )));
    }
    let orientation = decoder.orientation().or_reject()?;
    let image = DynamicImage::from_decoder(decoder).or_reject()?;
    let mut small = if image.width().max(image.height()) > SIDE_MAX {
        image.thumbnail(SIDE_MAX, SIDE_MAX)
    } else {
        image
    };
    small.apply_orientation(orientation);
    Ok((small, format))
}

/// Encodes a thumbnail in its source's format, so that a PNG keeps its transparency.
fn encode(image: &DynamicImage, format: ImageFormat) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    if format == ImageFormat::Jpeg {
        image
            .to_rgb8()
            .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))
            .or_reject()?;
    } else {
        image.write_to(&mut Cursor::new(&mut bytes), format).or_reject()?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_guest::{AttributeValue, testing};

    const COAST: &[u8] = include_bytes!("../input/coast.jpg");
    const LOGO: &[u8] = include_bytes!("../input/logo.png");

    fn thumbnail(body: &[u8]) -> Outgoing {
        handle(testing::message(body).id("m-1").build()).unwrap();
        let sent = testing::sent().pop().unwrap();
        assert_eq!(sent.queue, "thumbnails");
        sent.message
    }

    #[test]
    fn a_photo_shrinks_to_128_pixels_in_its_own_proportions() {
        let outgoing = thumbnail(COAST);
        let small = image::load_from_memory_with_format(&outgoing.body, ImageFormat::Jpeg).unwrap();
        assert_eq!((small.width(), small.height()), (128, 85));
        let attributes: Vec<_> = outgoing
            .attributes
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        assert_eq!(
            attributes,
            [
                ("source", &AttributeValue::from("m-1")),
                ("content-type", &AttributeValue::from("image/jpeg")),
                ("width", &AttributeValue::from(128_u32)),
                ("height", &AttributeValue::from(85_u32)),
            ]
        );
    }

    #[test]
    fn a_photo_taken_upright_stays_upright() {
        let outgoing = thumbnail(include_bytes!("../input/fjord.jpg"));
        let small = image::load_from_memory_with_format(&outgoing.body, ImageFormat::Jpeg).unwrap();
        assert_eq!((small.width(), small.height()), (85, 128));
    }

    #[test]
    fn a_png_keeps_its_transparency() {
        let small = image::load_from_memory_with_format(&thumbnail(LOGO).body, ImageFormat::Png).unwrap();
        assert_eq!(small.width().max(small.height()), 128);
        assert_eq!(small.to_rgba8().get_pixel(0, 0).0[3], 0);
    }

    #[test]
    fn what_is_not_an_image_is_rejected() {
        let failure = handle(testing::message(include_bytes!("../input/not-an-image.png")).build()).unwrap_err();
        assert_eq!(failure, Failure::reject("the body is neither a JPEG nor a PNG"));
    }

    #[test]
    fn an_image_too_large_to_decode_is_rejected() {
        let mut png = Vec::new();
        DynamicImage::new_luma8(9_000, 9_000)
            .write_to(&mut Cursor::new(&mut png), ImageFormat::Png)
            .unwrap();
        let failure = handle(testing::message(png).build()).unwrap_err();
        assert_eq!(failure, Failure::reject("an image of 9000 x 9000 pixels is too large"));
    }

    #[test]
    fn an_image_that_ends_early_is_rejected() {
        let failure = handle(testing::message(&LOGO[..LOGO.len() / 2]).build()).unwrap_err();
        assert!(matches!(failure, Failure::Reject(_)), "{failure}");
    }
}
